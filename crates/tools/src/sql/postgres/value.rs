//! Values between JSON and PostgreSQL.
//!
//! Arguments travel as text of the type that the server infers for their placeholder, so that it reads them
//! as it reads a literal: `uuid`, `timestamptz`, `numeric`, enums and the rest. `bytea` takes base64, arrays
//! take JSON arrays, `json` any JSON.
//!
//! | column | JSON |
//! |---|---|
//! | `smallint`, `integer`, `oid`, `bigint` | number; text beyond 2^53 |
//! | `real`, `double precision` | number; `NaN`, `Infinity`, `-Infinity` as text |
//! | `numeric` | text, all digits kept |
//! | `boolean`, text types, enums, `uuid`, `json` | boolean, text, text, text, the JSON itself |
//! | `timestamptz` | text, RFC 3339 in UTC |
//! | `timestamp`, `date`, `time`, `timetz` | text, ISO 8601 |
//! | `interval` | text, ISO 8601 duration |
//! | `bytea` | text, base64 |
//! | `inet`, `cidr`, `macaddr`, `bit` | text |
//! | arrays of one dimension | array |
//!
//! Others are refused before the statement runs, with the advice to cast them to text.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "kinds of types that are not named have no JSON form, and are refused"
)]

use std::{error::Error, fmt::Write as _};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::BytesMut;
use jiff::{Timestamp, civil};
use serde_json::Value;
use tokio_postgres::types::{Format, FromSql, IsNull, Kind, ToSql, Type, to_sql_checked};

use crate::sql::value::{integer, real};

type Bad = Box<dyn Error + Sync + Send>;

/// 2000-01-01T00:00:00Z in Unix microseconds: PostgreSQL's own epoch.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
const DAY_MICROS: i64 = 86_400_000_000;

/// An argument.
#[derive(Debug)]
pub(super) struct Argument(pub(super) Value);

impl ToSql for Argument {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Bad> {
        match text(&self.0, ty)? {
            None => Ok(IsNull::Yes),
            Some(text) => {
                out.extend_from_slice(text.as_bytes());
                Ok(IsNull::No)
            }
        }
    }

    fn accepts(_ty: &Type) -> bool {
        true
    }

    fn encode_format(&self, _ty: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

/// The text of a value as the server reads it for a type. None is NULL.
fn text(value: &Value, ty: &Type) -> Result<Option<String>, Bad> {
    if let Kind::Domain(base) = ty.kind() {
        return text(value, base);
    }
    if value.is_null() {
        return Ok(None);
    }
    if *ty == Type::JSON || *ty == Type::JSONB {
        return Ok(Some(value.to_string()));
    }
    if let Kind::Array(element) = ty.kind() {
        let Value::Array(items) = value else {
            return Err(format!("an array of `{element}` is needed").into());
        };
        return array(items, element).map(Some);
    }
    match value {
        Value::Null => Ok(None),
        Value::Bool(value) => Ok(Some(value.to_string())),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::String(value) if *ty == Type::BYTEA => {
            let bytes = STANDARD.decode(value).map_err(|_malformed| "base64 is needed for `bytea`")?;
            let mut hex = String::from("\\x");
            for byte in bytes {
                write!(hex, "{byte:02x}")?;
            }
            Ok(Some(hex))
        }
        Value::String(value) => Ok(Some(value.clone())),
        Value::Array(_) | Value::Object(_) => Err(format!("a single value of type `{ty}` is needed").into()),
    }
}

/// An array as PostgreSQL writes it.
fn array(items: &[Value], element: &Type) -> Result<String, Bad> {
    let mut out = String::from("{");
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        match item {
            Value::Array(nested) if *element != Type::JSON && *element != Type::JSONB => {
                out.push_str(&array(nested, element)?);
            }
            other => match text(other, element)? {
                None => out.push_str("NULL"),
                Some(text) => {
                    out.push('"');
                    for c in text.chars() {
                        if matches!(c, '"' | '\\') {
                            out.push('\\');
                        }
                        out.push(c);
                    }
                    out.push('"');
                }
            },
        }
    }
    out.push('}');
    Ok(out)
}

/// Tells whether a column of this type has a JSON form.
pub(super) fn has_form(ty: &Type) -> bool {
    match ty.kind() {
        Kind::Enum(_) => true,
        Kind::Domain(base) => has_form(base),
        Kind::Array(element) => has_form(element),
        Kind::Simple => simple(ty),
        _ => false,
    }
}

fn simple(ty: &Type) -> bool {
    const KNOWN: &[Type] = &[
        Type::BOOL,
        Type::INT2,
        Type::INT4,
        Type::INT8,
        Type::OID,
        Type::FLOAT4,
        Type::FLOAT8,
        Type::NUMERIC,
        Type::TEXT,
        Type::VARCHAR,
        Type::BPCHAR,
        Type::NAME,
        Type::UNKNOWN,
        Type::CHAR,
        Type::XML,
        Type::UUID,
        Type::JSON,
        Type::JSONB,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMP,
        Type::DATE,
        Type::TIME,
        Type::TIMETZ,
        Type::INTERVAL,
        Type::BYTEA,
        Type::INET,
        Type::CIDR,
        Type::MACADDR,
        Type::BIT,
        Type::VARBIT,
    ];
    KNOWN.contains(ty) || ty.name() == "citext" || *ty == Type::VOID
}

/// A value of a result, as JSON.
#[derive(Debug)]
pub(super) struct Cell(pub(super) Value);

impl<'a> FromSql<'a> for Cell {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Bad> {
        shown(ty, raw).map(Self)
    }

    fn from_sql_null(_ty: &Type) -> Result<Self, Bad> {
        Ok(Self(Value::Null))
    }

    fn accepts(ty: &Type) -> bool {
        has_form(ty)
    }
}

fn shown(ty: &Type, raw: &[u8]) -> Result<Value, Bad> {
    match ty.kind() {
        Kind::Enum(_) => return Ok(Value::from(std::str::from_utf8(raw)?)),
        Kind::Domain(base) => return shown(base, raw),
        Kind::Array(_) => {
            let cells: Vec<Cell> = Vec::from_sql(ty, raw)?;
            return Ok(Value::Array(cells.into_iter().map(|cell| cell.0).collect()));
        }
        _ => {}
    }
    Ok(match *ty {
        Type::BOOL => Value::from(bool::from_sql(ty, raw)?),
        Type::INT2 => Value::from(i16::from_sql(ty, raw)?),
        Type::INT4 => Value::from(i32::from_sql(ty, raw)?),
        Type::INT8 => integer(i64::from_sql(ty, raw)?),
        Type::OID => Value::from(u32::from_sql(ty, raw)?),
        Type::FLOAT4 => {
            // Through its own shortest text, so that 0.1 stays 0.1.
            let value = f32::from_sql(ty, raw)?;
            real(value.to_string().parse().unwrap_or_else(|_| f64::from(value)))
        }
        Type::FLOAT8 => real(f64::from_sql(ty, raw)?),
        Type::NUMERIC => Value::from(numeric(raw)?),
        Type::UUID => Value::from(uuid::Uuid::from_sql(ty, raw)?.to_string()),
        Type::JSON | Type::JSONB => Value::from_sql(ty, raw)?,
        Type::TIMESTAMPTZ => Value::from(instant(raw, |instant| instant.to_string())?),
        Type::TIMESTAMP => {
            let local = |instant: Timestamp| instant.to_zoned(jiff::tz::TimeZone::UTC).datetime().to_string();
            Value::from(instant(raw, local)?)
        }
        Type::DATE => Value::from(date(raw)?),
        Type::TIME => Value::from(time(i64_of(raw)?)?),
        Type::TIMETZ => {
            let (micros, zone) = raw.split_first_chunk::<8>().ok_or("a time is too short")?;
            let west = i32::from_be_bytes(zone.try_into()?);
            let east = west.checked_neg().ok_or("an offset is out of range")?;
            let sign = if east < 0 { '-' } else { '+' };
            let (hours, minutes) = (east.unsigned_abs() / 3600, east.unsigned_abs() / 60 % 60);
            Value::from(format!("{}{sign}{hours:02}:{minutes:02}", time(i64::from_be_bytes(*micros))?))
        }
        Type::INTERVAL => Value::from(interval(raw)?),
        Type::BYTEA => Value::from(STANDARD.encode(raw)),
        Type::INET | Type::CIDR => Value::from(network(raw)?),
        Type::MACADDR => {
            let bytes: Vec<String> = raw.iter().map(|byte| format!("{byte:02x}")).collect();
            Value::from(bytes.join(":"))
        }
        Type::BIT | Type::VARBIT => Value::from(bits(raw)?),
        Type::CHAR => Value::from(String::from_utf8_lossy(raw).into_owned()),
        Type::VOID => Value::Null,
        _ => Value::from(std::str::from_utf8(raw)?),
    })
}

fn i64_of(raw: &[u8]) -> Result<i64, Bad> {
    Ok(i64::from_be_bytes(raw.try_into()?))
}

fn instant(raw: &[u8], write: impl Fn(Timestamp) -> String) -> Result<String, Bad> {
    Ok(match i64_of(raw)? {
        i64::MAX => "infinity".into(),
        i64::MIN => "-infinity".into(),
        micros => {
            let micros = micros.checked_add(EPOCH_MICROS).ok_or("an instant is out of range")?;
            write(Timestamp::from_microsecond(micros)?)
        }
    })
}

fn date(raw: &[u8]) -> Result<String, Bad> {
    Ok(match i32::from_be_bytes(raw.try_into()?) {
        i32::MAX => "infinity".into(),
        i32::MIN => "-infinity".into(),
        days => {
            let epoch = civil::date(2000, 1, 1);
            epoch.checked_add(jiff::Span::new().try_days(days)?)?.to_string()
        }
    })
}

fn time(micros: i64) -> Result<String, Bad> {
    if micros == DAY_MICROS {
        return Ok("24:00:00".into());
    }
    let span = jiff::Span::new().try_microseconds(micros)?;
    Ok(civil::Time::midnight().checked_add(span)?.to_string())
}

/// An ISO 8601 duration; each unit keeps its own sign, as PostgreSQL writes it.
fn interval(raw: &[u8]) -> Result<String, Bad> {
    let (micros, rest) = raw.split_first_chunk::<8>().ok_or("an interval is too short")?;
    let (days, months) = rest.split_first_chunk::<4>().ok_or("an interval is too short")?;
    let (micros, days) = (i64::from_be_bytes(*micros), i32::from_be_bytes(*days));
    let months = i32::from_be_bytes(months.try_into()?);
    let mut out = String::from("P");
    for (amount, unit) in [(months / 12, 'Y'), (months % 12, 'M'), (days, 'D')] {
        if amount != 0 {
            write!(out, "{amount}{unit}")?;
        }
    }
    if micros != 0 || out.len() == 1 {
        out.push('T');
        let seconds = micros / 1_000_000;
        for (amount, unit) in [(seconds / 3600, 'H'), (seconds / 60 % 60, 'M')] {
            if amount != 0 {
                write!(out, "{amount}{unit}")?;
            }
        }
        let (whole, fraction) = (seconds % 60, (micros % 1_000_000).unsigned_abs());
        if whole != 0 || fraction != 0 || out.ends_with('T') {
            let sign = if micros < 0 && whole == 0 { "-" } else { "" };
            write!(out, "{sign}{whole}")?;
            if fraction != 0 {
                let digits = format!("{fraction:06}");
                write!(out, ".{}", digits.trim_end_matches('0'))?;
            }
            out.push('S');
        }
    }
    Ok(out)
}

/// The digits of a `numeric`: groups of four, with the weight of the first and the scale shown.
fn numeric(raw: &[u8]) -> Result<String, Bad> {
    let mut words = raw.chunks_exact(2).filter_map(|pair| pair.try_into().ok().map(u16::from_be_bytes));
    let mut next = || words.next().ok_or("a number is too short");
    let (count, weight, sign, scale) = (next()?, next()?.cast_signed(), next()?, next()?);
    match sign {
        0xC000 => return Ok("NaN".into()),
        0xD000 => return Ok("Infinity".into()),
        0xF000 => return Ok("-Infinity".into()),
        _ => {}
    }
    let groups: Vec<u16> = words.take(usize::from(count)).collect();
    let group = |at: i32| usize::try_from(at).ok().and_then(|at| groups.get(at)).copied().unwrap_or(0);
    let weight = i32::from(weight);
    let mut out = String::new();
    if sign == 0x4000 {
        out.push('-');
    }
    if weight < 0 {
        out.push('0');
    }
    for at in 0..=weight {
        if at == 0 {
            write!(out, "{}", group(at))?;
        } else {
            write!(out, "{:04}", group(at))?;
        }
    }
    if scale > 0 {
        let mut digits = String::new();
        let mut at = weight.saturating_add(1);
        while digits.len() < usize::from(scale) {
            write!(digits, "{:04}", group(at))?;
            at = at.saturating_add(1);
        }
        digits.truncate(usize::from(scale));
        write!(out, ".{digits}")?;
    }
    Ok(out)
}

fn network(raw: &[u8]) -> Result<String, Bad> {
    let [_family, bits, is_network, _length, address @ ..] = raw else {
        return Err("an address is too short".into());
    };
    let (address, full): (std::net::IpAddr, u8) = match address.len() {
        4 => (<[u8; 4]>::try_from(address)?.into(), 32),
        _ => (<[u8; 16]>::try_from(address)?.into(), 128),
    };
    Ok(if *is_network == 0 && *bits == full { address.to_string() } else { format!("{address}/{bits}") })
}

fn bits(raw: &[u8]) -> Result<String, Bad> {
    let (length, bytes) = raw.split_first_chunk::<4>().ok_or("bits are too short")?;
    let length = usize::try_from(i32::from_be_bytes(*length))?;
    let all = bytes.iter().flat_map(|byte| (0..8_u32).rev().map(move |at| byte & 1_u8.wrapping_shl(at) != 0));
    Ok(all.take(length).map(|bit| if bit { '1' } else { '0' }).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn writes_arguments_as_the_server_reads_them() {
        let check = |value: Value, ty: &Type, expected: &str| {
            assert_eq!(text(&value, ty).unwrap().as_deref(), Some(expected), "{value} as {ty}");
        };
        check(json!(12.50), &Type::NUMERIC, "12.5");
        check(json!("x'; drop table t --"), &Type::TEXT, "x'; drop table t --");
        check(json!(["a\"b\\", null, "{,}"]), &Type::TEXT_ARRAY, r#"{"a\"b\\",NULL,"{,}"}"#);
        check(json!([[1, 2], [3, 4]]), &Type::INT4_ARRAY, r#"{{"1","2"},{"3","4"}}"#);
        check(json!("AQID"), &Type::BYTEA, "\\x010203");
        check(json!("text"), &Type::JSONB, "\"text\"");
        assert_eq!(text(&Value::Null, &Type::TEXT).unwrap(), None);
        assert!(text(&json!({"a": 1}), &Type::TEXT).is_err());
        assert!(text(&json!("no base64!"), &Type::BYTEA).is_err());
    }

    #[test]
    fn reads_intervals_and_bits() {
        let raw = |micros: i64, days: i32, months: i32| {
            [micros.to_be_bytes().as_slice(), &days.to_be_bytes(), &months.to_be_bytes()].concat()
        };
        assert_eq!(interval(&raw(0, 0, 0)).unwrap(), "PT0S");
        assert_eq!(interval(&raw(3_723_500_000, 2, 14)).unwrap(), "P1Y2M2DT1H2M3.5S");
        assert_eq!(interval(&raw(-500_000, 0, 0)).unwrap(), "PT-0.5S");
        assert_eq!(bits(&[0, 0, 0, 3, 0b1010_0000]).unwrap(), "101");
    }

    #[test]
    fn reads_every_digit_of_a_numeric() {
        let raw = |words: &[u16]| words.iter().flat_map(|w| w.to_be_bytes()).collect::<Vec<u8>>();
        assert_eq!(numeric(&raw(&[0, 0, 0, 0])).unwrap(), "0");
        assert_eq!(numeric(&raw(&[2, 0, 0x4000, 2, 12, 3400])).unwrap(), "-12.34");
        assert_eq!(numeric(&raw(&[1, 0xFFFF, 0, 4, 5])).unwrap(), "0.0005");
        assert_eq!(numeric(&raw(&[1, 1, 0, 0, 7])).unwrap(), "70000");
        assert_eq!(numeric(&raw(&[0, 0, 0xC000, 0])).unwrap(), "NaN");
    }
}
