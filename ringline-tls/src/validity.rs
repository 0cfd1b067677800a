//! When a certificate can be used: the two dates in it, and nothing else of it.

/// Seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xA0;

/// The dates of a certificate; `None` if it is none.
pub(crate) fn read(certificate: &[u8]) -> Option<Validity> {
    let (tag, mut outer, _) = value(certificate)?;
    let (inner_tag, mut fields, _) = value(std::mem::take(&mut outer))?;
    if (tag, inner_tag) != (SEQUENCE, SEQUENCE) {
        return None;
    }
    if fields.first() == Some(&VERSION) {
        fields = value(fields)?.2;
    }
    // The serial number, the signature's algorithm and the issuer come first.
    for expected in [INTEGER, SEQUENCE, SEQUENCE] {
        let (tag, _, rest) = value(fields)?;
        fields = rest;
        if tag != expected {
            return None;
        }
    }
    let (tag, dates, _) = value(fields)?;
    let (first_tag, first, dates) = value(dates).filter(|_| tag == SEQUENCE)?;
    let (second_tag, second, _) = value(dates)?;
    Some(Validity { not_before: seconds(first_tag, first)?, not_after: seconds(second_tag, second)? })
}

/// The tag and the contents of the first value, and what comes behind it.
fn value(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut len = usize::from(first);
    if first >= 0x80 {
        let digits =
            rest.get(..usize::from(first & 0x7F)).filter(|digits| (1..=4).contains(&digits.len()))?;
        rest = &rest[digits.len()..];
        len = digits.iter().fold(0, |len, digit| len << 8 | usize::from(*digit));
    }
    Some((tag, rest.get(..len)?, &rest[len..]))
}

/// A time such as `261121084700Z`, with two or four digits for the year.
fn seconds(tag: u8, text: &[u8]) -> Option<i64> {
    let (text, zone) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let digits = text.iter().map(|digit| digit.is_ascii_digit().then(|| i64::from(digit - b'0')));
    let digits = digits.collect::<Option<Vec<_>>>().filter(|_| zone == b"Z")?;
    let number = |at: usize| Some(digits.get(at)? * 10 + digits.get(at + 1)?);
    let (year, at) = match (tag, digits.len()) {
        // Two digits are meant as from 1950 to 2049.
        (UTC_TIME, 12) => (number(0).map(|year| if year < 50 { 2000 + year } else { 1900 + year })?, 2),
        (GENERALIZED_TIME, 14) => (number(0)? * 100 + number(2)?, 4),
        _ => return None,
    };
    let (month, day) = (number(at)?, number(at + 2)?);
    if !(1..=12).contains(&month) {
        return None;
    }
    Some(((days(year, month, day) * 24 + number(at + 4)?) * 60 + number(at + 6)?) * 60 + number(at + 8)?)
}

/// How many days after the first of January 1970 a day is.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March here, so that the leap day is the last of its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn days_are_counted_as_the_calendar_does() {
        for (date, expected) in [
            ((1970, 1, 1), 0),
            ((1970, 3, 1), 59),
            ((2000, 2, 29), 11_016),
            ((2000, 3, 1), 11_017),
            ((2026, 11, 21), 20_778),
            ((2100, 3, 1), 47_541),
            ((1969, 12, 31), -1),
        ] {
            assert_eq!(days(date.0, date.1, date.2), expected, "{date:?}");
        }
    }

    #[test]
    fn both_kinds_of_time_are_read() {
        assert_eq!(seconds(UTC_TIME, b"700101000001Z"), Some(1));
        assert_eq!(seconds(UTC_TIME, b"491231235959Z"), Some(2_524_607_999));
        assert_eq!(seconds(GENERALIZED_TIME, b"20500101000000Z"), Some(2_524_608_000));
        for bad in [&b"700101000001"[..], b"7001010000Z", b"70010100000xZ", b"701301000000Z", b"Z", b""] {
            assert_eq!(seconds(UTC_TIME, bad), None);
        }
    }

    #[test]
    fn the_dates_of_a_certificate_are_found() {
        let mut params = rcgen::CertificateParams::new(vec!["a.test".into()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2001, 2, 3);
        params.not_after = rcgen::date_time_ymd(2077, 5, 6);
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let day = |count| count * 24 * 60 * 60;
        let expected = Validity { not_before: day(days(2001, 2, 3)), not_after: day(days(2077, 5, 6)) };
        assert_eq!(read(certificate.der()), Some(expected));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_no_reason_to_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
            let _ = seconds(GENERALIZED_TIME, &bytes);
        }
    }
}
