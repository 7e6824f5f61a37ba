"""What goes over the wire: strict bodies and queries in, documented views out."""
