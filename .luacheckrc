-- What a script finds in Redis 7, Valkey and fakeredis alike. `struct`, `cmsgpack` and `bit`
-- are left out on purpose: fakeredis has none of them.
stds.redis_script = {
   read_globals = { "redis", "cjson", "KEYS", "ARGV", "unpack" },
}
std = "lua51+redis_script"
max_line_length = 100
max_comment_line_length = 110 -- the headers, a table of keys and arguments
