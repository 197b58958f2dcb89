//! The adapters. Below here is the only code that touches the host; nothing here decides.
