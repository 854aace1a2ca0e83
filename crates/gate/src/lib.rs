//! The one path from a call to an effect.
