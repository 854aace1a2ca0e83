//! Writes what can be serialised as canonical JSON in one pass, without a tree of values in between.

use alloc::{
    string::{String, ToString as _},
    vec::Vec,
};
use core::{
    cmp::Ordering,
    fmt::{Display, Write as _},
};

use serde::ser::{
    Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};
use serde_json::Number;

use super::{CanonicalError, INTEGER_MAX, is_safe, write_string};

/// The text so far, and how many more levels it may have.
pub(super) struct Writer {
    out: String,
    depth_left: usize,
}

impl Writer {
    /// Writes one value into a text.
    pub(super) fn write<T: Serialize + ?Sized>(
        value: &T,
        depth_max: usize,
    ) -> Result<String, CanonicalError> {
        let mut writer = Self { out: String::with_capacity(256), depth_left: depth_max };
        value.serialize(&mut writer)?;
        Ok(writer.out)
    }

    fn enter(&mut self) -> Result<(), CanonicalError> {
        self.depth_left = self.depth_left.checked_sub(1).ok_or(CanonicalError::Depth)?;
        Ok(())
    }

    fn leave(&mut self, close: char) {
        self.depth_left = self.depth_left.saturating_add(1);
        self.out.push(close);
    }

    /// Begins an object whose only key is the name of a variant.
    fn variant(&mut self, variant: &str) -> Result<(), CanonicalError> {
        self.enter()?;
        self.out.push('{');
        write_string(&mut self.out, variant);
        self.out.push(':');
        Ok(())
    }

    /// Writes a number that may be larger than any integer that is written.
    fn integer<N: TryInto<i64> + Display + Copy>(&mut self, number: N) -> Result<(), CanonicalError> {
        let integer = number.try_into().map_err(|_large| CanonicalError::Number(number.to_string()))?;
        self.serialize_i64(integer)
    }

    fn items(&mut self, in_variant: bool) -> Result<Items<'_>, CanonicalError> {
        self.enter()?;
        self.out.push('[');
        Ok(Items { writer: self, first: true, in_variant })
    }

    fn members(&mut self, length: Option<usize>, in_variant: bool) -> Result<Members<'_>, CanonicalError> {
        self.enter()?;
        self.out.push('{');
        let start = self.out.len();
        let members = Vec::with_capacity(length.unwrap_or_default().min(MEMBERS_EXPECTED_MAX));
        Ok(Members { writer: self, start, members, in_variant })
    }
}

/// Room for so many members of an object is made at once at most, whatever a value says it has.
const MEMBERS_EXPECTED_MAX: usize = 64;

impl<'a> Serializer for &'a mut Writer {
    type Ok = ();
    type Error = CanonicalError;
    type SerializeSeq = Items<'a>;
    type SerializeTuple = Items<'a>;
    type SerializeTupleStruct = Items<'a>;
    type SerializeTupleVariant = Items<'a>;
    type SerializeMap = Members<'a>;
    type SerializeStruct = Members<'a>;
    type SerializeStructVariant = Members<'a>;

    fn serialize_bool(self, value: bool) -> Result<(), CanonicalError> {
        self.out.push_str(if value { "true" } else { "false" });
        Ok(())
    }

    fn serialize_i8(self, value: i8) -> Result<(), CanonicalError> {
        self.serialize_i64(i64::from(value))
    }

    fn serialize_i16(self, value: i16) -> Result<(), CanonicalError> {
        self.serialize_i64(i64::from(value))
    }

    fn serialize_i32(self, value: i32) -> Result<(), CanonicalError> {
        self.serialize_i64(i64::from(value))
    }

    fn serialize_i64(self, value: i64) -> Result<(), CanonicalError> {
        let refused = || CanonicalError::Number(value.to_string());
        if value.unsigned_abs() > INTEGER_MAX.unsigned_abs() {
            return Err(refused());
        }
        write!(self.out, "{value}").map_err(|_never| refused())
    }

    fn serialize_i128(self, value: i128) -> Result<(), CanonicalError> {
        self.integer(value)
    }

    fn serialize_u8(self, value: u8) -> Result<(), CanonicalError> {
        self.serialize_i64(i64::from(value))
    }

    fn serialize_u16(self, value: u16) -> Result<(), CanonicalError> {
        self.serialize_i64(i64::from(value))
    }

    fn serialize_u32(self, value: u32) -> Result<(), CanonicalError> {
        self.serialize_i64(i64::from(value))
    }

    fn serialize_u64(self, value: u64) -> Result<(), CanonicalError> {
        self.integer(value)
    }

    fn serialize_u128(self, value: u128) -> Result<(), CanonicalError> {
        self.integer(value)
    }

    fn serialize_f32(self, value: f32) -> Result<(), CanonicalError> {
        self.serialize_f64(f64::from(value))
    }

    fn serialize_f64(self, value: f64) -> Result<(), CanonicalError> {
        // What is no number at all is not safe either.
        if !is_safe(value) {
            let shown =
                Number::from_f64(value).map_or_else(|| value.to_string(), |number| number.to_string());
            return Err(CanonicalError::Number(shown));
        }
        self.out.push_str(ryu_js::Buffer::new().format_finite(value));
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), CanonicalError> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), CanonicalError> {
        write_string(&mut self.out, value);
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), CanonicalError> {
        self.collect_seq(value)
    }

    fn serialize_none(self) -> Result<(), CanonicalError> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), CanonicalError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), CanonicalError> {
        self.out.push_str("null");
        Ok(())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), CanonicalError> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<(), CanonicalError> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<(), CanonicalError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), CanonicalError> {
        self.variant(variant)?;
        value.serialize(&mut *self)?;
        self.leave('}');
        Ok(())
    }

    fn serialize_seq(self, _length: Option<usize>) -> Result<Items<'a>, CanonicalError> {
        self.items(false)
    }

    fn serialize_tuple(self, _length: usize) -> Result<Items<'a>, CanonicalError> {
        self.items(false)
    }

    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        _length: usize,
    ) -> Result<Items<'a>, CanonicalError> {
        self.items(false)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _length: usize,
    ) -> Result<Items<'a>, CanonicalError> {
        self.variant(variant)?;
        self.items(true)
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Members<'a>, CanonicalError> {
        self.members(length, false)
    }

    fn serialize_struct(self, _name: &'static str, length: usize) -> Result<Members<'a>, CanonicalError> {
        self.members(Some(length), false)
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Members<'a>, CanonicalError> {
        self.variant(variant)?;
        self.members(Some(length), true)
    }
}

/// An array whose items are being written.
pub(super) struct Items<'a> {
    writer: &'a mut Writer,
    first: bool,
    in_variant: bool,
}

impl Items<'_> {
    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CanonicalError> {
        if !core::mem::take(&mut self.first) {
            self.writer.out.push(',');
        }
        value.serialize(&mut *self.writer)
    }

    fn close(self) {
        self.writer.leave(']');
        if self.in_variant {
            self.writer.leave('}');
        }
    }
}

/// An object whose members are being written, in whichever order they come.
pub(super) struct Members<'a> {
    writer: &'a mut Writer,
    /// The first member begins here.
    start: usize,
    members: Vec<Member>,
    in_variant: bool,
}

/// One member of an object stands in the text from `start` to `end`, and its key, with quotes, before `colon`.
struct Member {
    start: usize,
    colon: usize,
    end: usize,
}

impl Members<'_> {
    fn key(
        &mut self,
        write: impl FnOnce(&mut Writer) -> Result<(), CanonicalError>,
    ) -> Result<(), CanonicalError> {
        if !self.members.is_empty() {
            self.writer.out.push(',');
        }
        let start = self.writer.out.len();
        write(self.writer)?;
        let colon = self.writer.out.len();
        self.writer.out.push(':');
        self.members.push(Member { start, colon, end: colon });
        Ok(())
    }

    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CanonicalError> {
        value.serialize(&mut *self.writer)?;
        let end = self.writer.out.len();
        if let Some(last) = self.members.last_mut() {
            last.end = end;
        }
        Ok(())
    }

    /// Puts the members in the order of their keys, if they are not in it.
    fn close(mut self) -> Result<(), CanonicalError> {
        let out = &self.writer.out;
        let key = |member: &Member| out.get(member.start..member.colon).unwrap_or_default();
        let in_order = |(one, next): (&Member, &Member)| compare(key(one), key(next)) == Ordering::Less;
        if !self.members.iter().zip(self.members.iter().skip(1)).all(in_order) {
            self.members.sort_by(|one, other| compare(key(one), key(other)));
            if let Some((twice, _)) =
                self.members.iter().zip(self.members.iter().skip(1)).find(|pair| !in_order(*pair))
            {
                return Err(CanonicalError::Key(key(twice).to_string()));
            }
            let mut sorted = String::with_capacity(out.len().saturating_sub(self.start));
            for member in &self.members {
                if !sorted.is_empty() {
                    sorted.push(',');
                }
                sorted.push_str(out.get(member.start..member.end).unwrap_or_default());
            }
            self.writer.out.truncate(self.start);
            self.writer.out.push_str(&sorted);
        }
        self.writer.leave('}');
        if self.in_variant {
            self.writer.leave('}');
        }
        Ok(())
    }
}

/// Compares keys as they are written, by their UTF-16 code units (RFC 8785, section 3.2.3), which differs from the order
/// of UTF-8 bytes for characters beyond U+FFFF.
fn compare(one: &str, other: &str) -> Ordering {
    let plain = |key: &str| key.bytes().all(|byte| byte.is_ascii() && byte != b'\\');
    if plain(one) && plain(other) {
        // Without quotes: the one at the end would come after a space.
        return one.trim_matches('"').cmp(other.trim_matches('"'));
    }
    let read = |key: &str| serde_json::from_str::<String>(key).unwrap_or_default();
    read(one).encode_utf16().cmp(read(other).encode_utf16())
}

/// An array is written alike, whatever of Rust's it comes from.
macro_rules! written_as_items {
    ($($form:ident::$item:ident),*) => {
        $(impl $form for Items<'_> {
            type Ok = ();
            type Error = CanonicalError;

            fn $item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CanonicalError> {
                self.item(value)
            }

            fn end(self) -> Result<(), CanonicalError> {
                self.close();
                Ok(())
            }
        })*
    };
}

written_as_items!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);

/// An object whose keys are names of fields is written alike, with a variant around it or without.
macro_rules! written_as_members {
    ($($form:ident),*) => {
        $(impl $form for Members<'_> {
            type Ok = ();
            type Error = CanonicalError;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Result<(), CanonicalError> {
                self.key(|writer| writer.serialize_str(key))?;
                self.value(value)
            }

            fn end(self) -> Result<(), CanonicalError> {
                self.close()
            }
        })*
    };
}

written_as_members!(SerializeStruct, SerializeStructVariant);

impl SerializeMap for Members<'_> {
    type Ok = ();
    type Error = CanonicalError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), CanonicalError> {
        self.key(|writer| {
            let start = writer.out.len();
            key.serialize(&mut *writer)?;
            let written = writer.out.get(start..).unwrap_or_default();
            match written.bytes().next() {
                Some(b'"') => {}
                // Numbers and truth values are keys as their texts.
                Some(b'0'..=b'9' | b'-' | b't' | b'f') => {
                    writer.out.insert(start, '"');
                    writer.out.push('"');
                }
                _ => return Err(CanonicalError::Key(written.to_string())),
            }
            Ok(())
        })
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CanonicalError> {
        self.value(value)
    }

    fn end(self) -> Result<(), CanonicalError> {
        self.close()
    }
}
