//! Amounts of money, in minor units, never in floating point.

use alloc::string::String;
use core::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// This is an alphabetic currency code of ISO 4217.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency([u8; 3]);

impl Currency {
    /// Returns how many decimal places separate the minor unit from the major one: 2 for euros and cents. It is from
    /// ISO 4217's table A.1, where most currencies have 2; a code that is not in it counts as 2.
    #[must_use]
    pub const fn exponent(self) -> u32 {
        match &self.0 {
            b"BIF" | b"CLP" | b"DJF" | b"GNF" | b"ISK" | b"JPY" | b"KMF" | b"KRW" | b"PYG" | b"RWF"
            | b"UGX" | b"UYI" | b"VND" | b"VUV" | b"XAF" | b"XOF" | b"XPF" => 0,
            b"BHD" | b"IQD" | b"JOD" | b"KWD" | b"LYD" | b"OMR" | b"TND" => 3,
            b"CLF" | b"UYW" => 4,
            _ => 2,
        }
    }

    /// Returns true if ISO 4217 lists the code.
    #[must_use]
    pub fn is_listed(self) -> bool {
        LISTED.split(' ').any(|code| code.as_bytes() == self.0)
    }

    /// Returns every code that ISO 4217 lists, in order.
    pub fn listed() -> impl Iterator<Item = Self> {
        LISTED.split(' ').filter_map(|code| code.parse().ok())
    }
}

/// The codes in force of ISO 4217's table A.1.
const LISTED: &str = "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD \
    CDF CHE CHF CHW CLF CLP CNY COP COU CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP \
    GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK \
    LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD OMR \
    PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL \
    THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD USN UYI UYU UYW UZS VED VES VND VUV WST XAF XAG XAU XBA XBB \
    XBC XBD XCD XCG XDR XOF XPD XPF XPT XSU XUA YER ZAR ZMW ZWG";

/// The text is not three ASCII letters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an ISO 4217 currency code such as `EUR`")]
pub struct BadCurrency(String);

impl FromStr for Currency {
    type Err = BadCurrency;
    fn from_str(text: &str) -> Result<Self, BadCurrency> {
        match text.as_bytes() {
            [a, b, c] if text.bytes().all(|x| x.is_ascii_alphabetic()) => {
                Ok(Self([a.to_ascii_uppercase(), b.to_ascii_uppercase(), c.to_ascii_uppercase()]))
            }
            _ => Err(BadCurrency(text.into())),
        }
    }
}

impl TryFrom<String> for Currency {
    type Error = BadCurrency;
    fn try_from(text: String) -> Result<Self, BadCurrency> {
        text.parse()
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> Self {
        alloc::format!("{currency}")
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{}", char::from(*b)))
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An amount that a call moves, in minor units (cents) of one currency. Never negative: a direction is
/// the tool's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Money {
    /// The amount is in this currency.
    pub currency: Currency,
    /// The amount is so many of the currency's minor unit, such as cents.
    pub minor: u64,
}

impl fmt::Display for Money {
    /// In the currency's own form: 500 minor units of `EUR` are `5.00 EUR`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exponent = self.currency.exponent();
        let unit = 10_u64.saturating_pow(exponent);
        let (major, minor) = (self.minor.checked_div(unit), self.minor.checked_rem(unit));
        write!(f, "{}", major.unwrap_or(self.minor))?;
        if exponent > 0 {
            let places = usize::try_from(exponent).unwrap_or(0);
            write!(f, ".{:0places$}", minor.unwrap_or(0))?;
        }
        write!(f, " {}", self.currency)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::*;

    #[test]
    fn the_list_is_in_order_and_knows_its_own() {
        let all: alloc::vec::Vec<Currency> = Currency::listed().collect();
        assert!(all.is_sorted() && all.len() == 177, "{}", all.len());
        for (code, listed) in
            [("EUR", true), ("jpy", true), ("EUT", false), ("BTC", false), ("AED", true), ("ZWG", true)]
        {
            assert_eq!(code.parse::<Currency>().unwrap().is_listed(), listed, "{code}");
        }
    }

    #[test]
    fn money_is_written_in_its_currency_s_form() {
        for (minor, code, written) in [
            (500, "EUR", "5.00 EUR"),
            (5, "EUR", "0.05 EUR"),
            (500, "JPY", "500 JPY"),
            (1_234, "KWD", "1.234 KWD"),
            (u64::MAX, "USD", "184467440737095516.15 USD"),
        ] {
            let money = Money { currency: code.parse().unwrap(), minor };
            assert_eq!(money.to_string(), written);
        }
    }
}
