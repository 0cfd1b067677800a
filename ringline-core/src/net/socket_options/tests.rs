//! What is checked, and what becomes of each option.

use super::*;

fn fresh(options: &SocketOptions, family: Family) -> Result<Vec<Setting>, OptionError> {
    options.settings(family, Moment::Fresh)
}

fn numbers_of(options: &SocketOptions, family: Family) -> Vec<(i32, i32)> {
    fresh(options, family).unwrap().iter().map(|setting| (setting.level, setting.name)).collect()
}

#[test]
fn each_range_is_met_and_not_passed() {
    type Make = fn(u32) -> SocketOptions;
    let cases: [(Make, u32, u32); 4] = [
        (|value| SocketOptions::new().keep_alive_idle(Duration::from_secs(value.into())), 1, 32_767),
        (|value| SocketOptions::new().keep_alive_interval(Duration::from_secs(value.into())), 1, 32_767),
        (|value| SocketOptions::new().keep_alive_count(value), 1, 127),
        (|value| SocketOptions::new().send_buffer_bytes(value), 1, 1 << 30),
    ];
    for (make, min, max) in cases {
        for value in [min, max] {
            assert!(fresh(&make(value), Family::V4).is_ok());
        }
        for value in [min - 1, max + 1] {
            let error = fresh(&make(value), Family::V4).unwrap_err();
            assert!(
                matches!(error, OptionError::OutOfRange { value: found, .. } if found == i64::from(value))
            );
            assert!(error.to_string().contains(&max.to_string()), "{error}");
        }
    }
    let long = SocketOptions::new().user_timeout(Duration::from_secs(u32::MAX.into()));
    assert!(matches!(fresh(&long, Family::V4), Err(OptionError::OutOfRange { .. })));
    assert!(fresh(&SocketOptions::new().busy_poll(Duration::MAX), Family::V4).is_err());
}

#[test]
fn a_part_of_a_unit_is_rounded_up() {
    let value = |options: &SocketOptions| fresh(options, Family::V4).unwrap()[0].value.clone();
    let bytes = |number: i32| Box::from(number.to_ne_bytes());
    assert_eq!(value(&SocketOptions::new().keep_alive_idle(Duration::from_millis(1001))), bytes(2));
    assert_eq!(value(&SocketOptions::new().user_timeout(Duration::from_micros(1))), bytes(1));
    assert_eq!(value(&SocketOptions::new().user_timeout(Duration::ZERO)), bytes(0));
}

#[test]
fn names_and_raw_values_have_a_length() {
    for name in ["", "0123456789abcdef"] {
        let error = fresh(&SocketOptions::new().congestion(name), Family::V4).unwrap_err();
        assert_eq!(error, OptionError::Length { option: SocketOption::Congestion, len: name.len(), max: 15 });
        assert!(fresh(&SocketOptions::new().device(name), Family::V4).is_err());
    }
    let zero = fresh(&SocketOptions::new().device("a\0b"), Family::V4).unwrap_err();
    assert_eq!(zero, OptionError::ZeroByte { option: SocketOption::Device });
    assert!(fresh(&SocketOptions::new().raw(1, 2, &[0; 256]), Family::V4).is_ok());
    assert!(fresh(&SocketOptions::new().raw(1, 2, &[0; 257]), Family::V4).is_err());
    assert!(fresh(&SocketOptions::new().raw(1, 2, &[]), Family::V4).is_err());
}

#[test]
fn raw_options_are_bounded_and_none_of_them_blocks_the_worker() {
    let many = |count| (0..count).fold(SocketOptions::new(), |options, name| options.raw(6, name, &[0]));
    assert!(fresh(&many(16), Family::V4).is_ok());
    assert_eq!(fresh(&many(17), Family::V4).unwrap_err(), OptionError::TooManyRaw { count: 17, max: 16 });
    let linger = SocketOptions::new().raw(libc::SOL_SOCKET, libc::SO_LINGER, &[1; 8]);
    assert_eq!(fresh(&linger, Family::V4).unwrap_err(), OptionError::Blocks);
}

#[test]
fn what_is_set_twice_has_the_later_value() {
    let options = SocketOptions::new().priority(3).raw(1, 2, &[1]).priority(4).raw(1, 2, &[2]);
    let settings = fresh(&options, Family::V4).unwrap();
    assert_eq!(settings.len(), 2);
    assert_eq!(*settings[0].value, 4_i32.to_ne_bytes());
    assert_eq!(*settings[1].value, [2]);
}

#[test]
fn each_family_gets_what_it_knows() {
    let class = SocketOptions::new().traffic_class(0x20);
    let (tos, tclass) = ((libc::IPPROTO_IP, libc::IP_TOS), (libc::IPPROTO_IPV6, libc::IPV6_TCLASS));
    assert_eq!(numbers_of(&class, Family::V4), [tos]);
    assert_eq!(numbers_of(&class, Family::V6), [tclass, tos]);
    let only = SocketOptions::new().v6_only(true);
    assert_eq!(numbers_of(&only, Family::V4), []);
    assert_eq!(numbers_of(&only, Family::V6), [(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY)]);
    let refused = fresh(&SocketOptions::new().nodelay(true), Family::Unix).unwrap_err();
    assert_eq!(refused, OptionError::NotForUnix { option: SocketOption::Nodelay });
    assert!(fresh(&SocketOptions::new().send_buffer_bytes(1).raw(1, 2, &[1]), Family::Unix).is_ok());
}

#[test]
fn an_open_connection_has_its_address_already() {
    for options in [SocketOptions::new().free_bind(true), SocketOptions::new().device("lo")] {
        assert!(options.settings(Family::V4, Moment::Fresh).is_ok());
        assert!(matches!(options.settings(Family::V4, Moment::Open), Err(OptionError::TooLate { .. })));
    }
}

#[test]
fn a_reset_is_a_linger_of_no_time() {
    let settings = fresh(&SocketOptions::new().reset_on_close(true), Family::V4).unwrap();
    assert_eq!(settings[0].value.len(), size_of::<libc::linger>());
    assert_eq!(*settings[0].value, [1_i32.to_ne_bytes(), [0; 4]].concat());
}

#[test]
fn no_value_may_hold_an_address() {
    let raw =
        |level, name| SocketOptions::new().raw(level, name, &[0; 16]).settings(Family::V4, Moment::Fresh);
    let refused = [
        (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER),
        (libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF),
        (libc::IPPROTO_IP, 64),
        (libc::IPPROTO_IP, 128),
        (libc::IPPROTO_IPV6, 64),
    ];
    for (level, name) in refused {
        let option = SocketOption::Raw { level, name };
        assert_eq!(raw(level, name), Err(OptionError::HoldsAddress { option }));
    }
    assert!(raw(libc::IPPROTO_IPV6, libc::IPV6_TCLASS).is_ok());
}
