//! Days in a gateway's life, one story a file: the real binary, real sockets, real plugins, a real database.

mod accept;
