//! What a value may look like: its type on the wire, its range, and the check.
//!
//! Does: checks one text against one kind and says in one sentence what is wrong.
//! Does not: know option names or meanings.
//! Invariants: a text that passes `Kind::check` can be parsed by the reader of that kind.
//! Apart because broker options and topic configs share it.

/// The type code DescribeConfigs reports for a value (KIP-569).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ValueType {
    /// `true` or `false`.
    Boolean = 1,
    /// Any text.
    String = 2,
    /// 32-bit signed number.
    Int = 3,
    /// 16-bit signed number.
    Short = 4,
    /// 64-bit signed number.
    Long = 5,
    /// Floating-point number.
    Double = 6,
    /// Texts separated by commas.
    List = 7,
    /// A Java class name.
    Class = 8,
    /// A secret: never shown.
    Password = 9,
}

impl ValueType {
    /// The number that goes on the wire.
    pub fn code(self) -> i8 {
        self as i8
    }

    /// The word used in messages and in `CONFIG.md`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::String => "string",
            Self::Int => "int",
            Self::Short => "short",
            Self::Long => "long",
            Self::Double => "double",
            Self::List => "list",
            Self::Class => "class",
            Self::Password => "password",
        }
    }
}

/// The values one setting accepts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// `true` or `false`, in any case.
    Boolean,
    /// 16-bit number within `min..=max`.
    Short {
        /// Smallest allowed value.
        min: i64,
        /// Largest allowed value.
        max: i64,
    },
    /// 32-bit number within `min..=max`.
    Int {
        /// Smallest allowed value.
        min: i64,
        /// Largest allowed value.
        max: i64,
    },
    /// 64-bit number within `min..=max`.
    Long {
        /// Smallest allowed value.
        min: i64,
        /// Largest allowed value.
        max: i64,
    },
    /// Floating-point number within `min..=max`.
    Double {
        /// Smallest allowed value.
        min: f64,
        /// Largest allowed value.
        max: f64,
    },
    /// Any text.
    Text,
    /// One of these words, exactly as written.
    Choice(&'static [&'static str]),
    /// Comma-separated words, each one of these; no words given means any word.
    List(&'static [&'static str]),
    /// `*`, or comma-separated `partition:broker` pairs.
    ThrottledReplicas,
    /// Comma-separated `host:number` pairs.
    HostNumbers,
}

impl Kind {
    /// A 32-bit number from `min` upwards.
    pub const fn int_from(min: i64) -> Self {
        Self::Int { min, max: i32::MAX as i64 }
    }

    /// A 64-bit number from `min` upwards.
    pub const fn long_from(min: i64) -> Self {
        Self::Long { min, max: i64::MAX }
    }

    /// The type DescribeConfigs reports.
    pub const fn value_type(&self) -> ValueType {
        match self {
            Self::Boolean => ValueType::Boolean,
            Self::Short { .. } => ValueType::Short,
            Self::Int { .. } => ValueType::Int,
            Self::Long { .. } => ValueType::Long,
            Self::Double { .. } => ValueType::Double,
            Self::Text | Self::Choice(_) | Self::HostNumbers => ValueType::String,
            Self::List(_) | Self::ThrottledReplicas => ValueType::List,
        }
    }

    /// Any value of a type, for settings whose range nobody here needs.
    pub fn any(value_type: ValueType) -> Self {
        match value_type {
            ValueType::Boolean => Self::Boolean,
            ValueType::Short => Self::Short { min: i16::MIN.into(), max: i16::MAX.into() },
            ValueType::Int => Self::int_from(i32::MIN.into()),
            ValueType::Long => Self::long_from(i64::MIN),
            ValueType::Double => Self::Double { min: f64::NEG_INFINITY, max: f64::INFINITY },
            ValueType::List => Self::List(&[]),
            ValueType::String | ValueType::Class | ValueType::Password => Self::Text,
        }
    }

    /// Whether `value` is allowed for the setting called `name`.
    ///
    /// # Errors
    /// One sentence naming the value, the setting and what is expected.
    pub fn check(&self, name: &str, value: &str) -> Result<(), String> {
        let Some(reason) = self.complaint(value) else { return Ok(()) };
        let at_fault = match self {
            Self::List(allowed) => stranger(value, allowed).unwrap_or(value),
            _ => value,
        };
        Err(format!("Invalid value {at_fault} for configuration {name}: {reason}"))
    }

    /// The allowed values in words, for `CONFIG.md`.
    pub fn range(&self) -> String {
        match self {
            Self::Boolean => "true, false".to_owned(),
            Self::Short { min, max } => {
                bounds(*min, *max, i64::from(i16::MIN), i64::from(i16::MAX))
            }
            Self::Int { min, max } => bounds(*min, *max, i64::from(i32::MIN), i64::from(i32::MAX)),
            Self::Long { min, max } => bounds(*min, *max, i64::MIN, i64::MAX),
            Self::Double { min, max } => format!("{min} … {max}"),
            Self::Text => String::new(),
            Self::Choice(words) => words.join(", "),
            Self::List([]) => "list".to_owned(),
            Self::List(words) => format!("list of {}", words.join(", ")),
            Self::ThrottledReplicas => "* or partition:broker, …".to_owned(),
            Self::HostNumbers => "host:number, …".to_owned(),
        }
    }

    fn complaint(&self, value: &str) -> Option<String> {
        let value = value.trim();
        match self {
            Self::Boolean => {
                let why = || "Expected value to be either true or false".to_owned();
                (parse_boolean(value).is_none()).then(why)
            }
            Self::Short { min, max } | Self::Int { min, max } | Self::Long { min, max } => {
                number_complaint(value, *min, *max, self.value_type())
            }
            Self::Double { min, max } => double_complaint(value, *min, *max),
            Self::Text => None,
            Self::Choice(words) => (!words.contains(&value)).then(|| none_of(words)),
            Self::List(words) => stranger(value, words).map(|_| none_of(words)),
            Self::ThrottledReplicas => (!is_throttled_replicas(value))
                .then(|| "must be * or pairs of partition:broker separated by commas".to_owned()),
            Self::HostNumbers => (!are_host_numbers(value))
                .then(|| "must be pairs of host:number separated by commas".to_owned()),
        }
    }
}

/// `true` or `false` in any case, as Java reads it.
pub fn parse_boolean(value: &str) -> Option<bool> {
    if value.eq_ignore_ascii_case("true") {
        Some(true)
    } else if value.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// The words of a comma-separated list, trimmed; an empty text is an empty list.
pub fn words(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|word| !word.is_empty())
}

fn number_complaint(value: &str, min: i64, max: i64, value_type: ValueType) -> Option<String> {
    let Ok(number) = value.parse::<i64>() else {
        return Some(no_number(value_type));
    };
    if number < min {
        Some(format!("Value must be at least {min}"))
    } else if number > max {
        Some(format!("Value must be no more than {max}"))
    } else {
        None
    }
}

fn double_complaint(value: &str, min: f64, max: f64) -> Option<String> {
    match value.parse::<f64>() {
        Ok(number) if number >= min && number <= max => None,
        Ok(number) if number < min => Some(format!("Value must be at least {min}")),
        Ok(_) => Some(format!("Value must be no more than {max}")),
        Err(_) => Some(no_number(ValueType::Double)),
    }
}

fn no_number(value_type: ValueType) -> String {
    format!("Not a number of type {}", value_type.word().to_uppercase())
}

/// The first word of a list that is not among those allowed, if only some are.
fn stranger<'v>(value: &'v str, allowed: &[&str]) -> Option<&'v str> {
    words(value).find(|word| !allowed.is_empty() && !allowed.contains(word))
}

fn none_of(allowed: &[&str]) -> String {
    format!("String must be one of: {}", allowed.join(", "))
}

fn is_throttled_replicas(value: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    value == "*"
        || words(value).all(|pair| {
            pair.split_once(':').is_some_and(|(partition, broker)| {
                is_number(partition.trim()) && is_number(broker.trim())
            })
        })
}

/// As Kafka takes them: the last colon separates, so that an IPv6 address needs no brackets.
fn are_host_numbers(value: &str) -> bool {
    let is_host = |b: u8| b.is_ascii_alphanumeric() || b"-%._:".contains(&b);
    words(value).all(|pair| {
        pair.rsplit_once(':').is_some_and(|(host, number)| {
            host.trim().bytes().all(is_host) && number.trim().parse::<i32>().is_ok()
        })
    })
}

fn bounds(min: i64, max: i64, lowest: i64, highest: i64) -> String {
    match (min == lowest, max == highest) {
        (true, true) => String::new(),
        (true, false) => format!("≤ {max}"),
        (false, true) => format!("≥ {min}"),
        (false, false) => format!("{min} … {max}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_names_value_setting_and_expectation() {
        let complaint = Kind::long_from(-1).check("retention.ms", "-2").unwrap_err();
        assert_eq!(
            complaint,
            "Invalid value -2 for configuration retention.ms: Value must be at least -1"
        );
        let ratio = Kind::Double { min: 0.0, max: 1.0 };
        let policy = Kind::List(&["compact", "delete"]);
        for (kind, value, why) in [
            (Kind::int_from(1), "ten", "ten for configuration x: Not a number of type INT"),
            (ratio, "1.1", "1.1 for configuration x: Value must be no more than 1"),
            (ratio, "-0.1", "-0.1 for configuration x: Value must be at least 0"),
            (ratio, "half", "half for configuration x: Not a number of type DOUBLE"),
            (
                Kind::Boolean,
                "yes",
                "yes for configuration x: Expected value to be either true or false",
            ),
            (Kind::Choice(&["a", "b"]), "c", "c for configuration x: String must be one of: a, b"),
            (
                policy,
                "compact,shrink",
                "shrink for configuration x: String must be one of: compact, delete",
            ),
        ] {
            assert_eq!(kind.check("x", value), Err(format!("Invalid value {why}")));
        }
    }

    #[test]
    fn numbers_are_bounded_by_their_width() {
        assert!(Kind::int_from(0).check("x", "2147483648").is_err());
        assert!(Kind::int_from(0).check("x", " 2147483647 ").is_ok());
        assert!(Kind::long_from(0).check("x", "9223372036854775808").is_err());
    }

    #[test]
    fn words_lists_and_pairs() {
        assert!(Kind::Boolean.check("x", "TRUE").is_ok());
        assert!(Kind::Boolean.check("x", "yes").is_err());
        let policy = Kind::List(&["compact", "delete"]);
        assert!(policy.check("x", "compact, delete").is_ok());
        assert!(policy.check("x", "compact,shrink").is_err());
        assert!(Kind::ThrottledReplicas.check("x", "0:1,1:2").is_ok());
        assert!(Kind::ThrottledReplicas.check("x", "*").is_ok());
        assert!(Kind::ThrottledReplicas.check("x", "0-1").is_err());
        for good in ["", "a:1,b.c:2", "::1:5", "a:-1, b_c:0"] {
            assert!(Kind::HostNumbers.check("x", good).is_ok(), "{good}");
        }
        for bad in ["garbage", "a:x", "a b:1", "a:1,b"] {
            assert!(Kind::HostNumbers.check("x", bad).is_err(), "{bad}");
        }
        assert!(Kind::Double { min: 0.0, max: 1.0 }.check("x", "NaN").is_err());
    }
}
