//! The house itself: cores, sockets, requests, configuration.
