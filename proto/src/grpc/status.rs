//! The codes of gRPC (`statuscodes.md`), and what becomes of outcomes that are none:
//! HTTP statuses, our own refusals, resets of HTTP/2 streams.

macro_rules! codes {
    ($($code:literal $variant:ident $name:literal $what:literal,)*) => {
        /// How a call ended.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[repr(u8)]
        pub enum Status {
            $(#[doc = $what] $variant = $code,)*
        }

        const ALL: &[(Status, &str)] = &[$((Status::$variant, $name),)*];
    };
}

codes! {
    0 Ok "OK" "It went well.",
    1 Cancelled "CANCELLED" "Somebody, mostly the client, gave it up.",
    2 Unknown "UNKNOWN" "Of the others nothing is known to fit.",
    3 InvalidArgument "INVALID_ARGUMENT" "The client's argument is bad in any state of the system.",
    4 DeadlineExceeded "DEADLINE_EXCEEDED" "The time that the client gave is over.",
    5 NotFound "NOT_FOUND" "The entity that was asked for does not exist.",
    6 AlreadyExists "ALREADY_EXISTS" "The entity that was to be made exists.",
    7 PermissionDenied "PERMISSION_DENIED" "The client is known and may not.",
    8 ResourceExhausted "RESOURCE_EXHAUSTED" "A quota, a size or space.",
    9 FailedPrecondition "FAILED_PRECONDITION" "The state of the system does not allow it.",
    10 Aborted "ABORTED" "A conflict with another call.",
    11 OutOfRange "OUT_OF_RANGE" "Past the end of something.",
    12 Unimplemented "UNIMPLEMENTED" "There is no such method here.",
    13 Internal "INTERNAL" "Something is broken.",
    14 Unavailable "UNAVAILABLE" "Not at the moment; trying again may help.",
    15 DataLoss "DATA_LOSS" "Data are lost for good.",
    16 Unauthenticated "UNAUTHENTICATED" "The client is not known.",
}

impl Status {
    /// The number in `grpc-status`.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The code with that number.
    pub fn from_code(code: u8) -> Option<Status> {
        ALL.get(code as usize).map(|(status, _)| *status)
    }

    /// Its name, such as `DEADLINE_EXCEEDED`.
    pub fn name(self) -> &'static str {
        ALL[self as usize].1
    }

    /// The code with that name, in any case, as retry policies write it (`unavailable`).
    pub fn from_name(name: &str) -> Option<Status> {
        ALL.iter().find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(status, _)| *status)
    }

    /// Reads a value of `grpc-status`: decimal digits without leading zeros. A number that no code
    /// has is [`Status::Unknown`], as clients take it. `None` for anything else.
    pub fn parse(value: &[u8]) -> Option<Status> {
        let shape = match value {
            [b'0'] => true,
            [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
            _ => false,
        };
        let number = match *value {
            [one] => one.wrapping_sub(b'0'),
            [ten, one] => ten.wrapping_sub(b'0').wrapping_mul(10).wrapping_add(one.wrapping_sub(b'0')),
            _ => u8::MAX,
        };
        shape.then(|| Status::from_code(number).unwrap_or(Status::Unknown))
    }

    /// What a client makes of an HTTP response without `grpc-status`, by the table of
    /// `http-grpc-status-mapping.md`. A 200 is `UNKNOWN` too: had it gone well, it would say so.
    pub fn from_http(status: u16) -> Status {
        match status {
            400 | 431 => Status::Internal,
            401 => Status::Unauthenticated,
            403 => Status::PermissionDenied,
            404 => Status::Unimplemented,
            429 | 502 | 503 | 504 => Status::Unavailable,
            _ => Status::Unknown,
        }
    }

    /// What we answer a gRPC call with where we would answer plain HTTP with `status`.
    ///
    /// The table above decides wherever it has an entry, so that a client sees the same whether a
    /// gateway knows gRPC or not. For what it leaves at `UNKNOWN` there are better words, mostly
    /// those of nginx's gRPC gateway. A call whose `grpc-timeout` ran out is
    /// [`Status::DeadlineExceeded`] and no 504: the caller knows which clock it was.
    pub fn from_refusal(status: u16) -> Status {
        match Status::from_http(status) {
            Status::Unknown => {}
            known => return known,
        }
        match status {
            408 => Status::DeadlineExceeded,
            413 | 414 | 507 => Status::ResourceExhausted,
            499 => Status::Cancelled,
            405 | 501 => Status::Unimplemented,
            407 => Status::Unauthenticated,
            409 => Status::Aborted,
            412 => Status::FailedPrecondition,
            416 => Status::OutOfRange,
            // A request on the wrong connection may go well on another one.
            421 => Status::Unavailable,
            411 | 415 | 417 | 422 | 426 | 500 | 505 => Status::Internal,
            _ => Status::Unknown,
        }
    }

    /// What an HTTP/2 stream that an upstream reset with that error code means, by the table
    /// "Errors" of `PROTOCOL-HTTP2.md` (codes of RFC 9113 section 7).
    pub fn from_reset(error_code: u32) -> Status {
        match error_code {
            7 => Status::Unavailable,        // REFUSED_STREAM: nothing was processed
            8 => Status::Cancelled,          // CANCEL
            11 => Status::ResourceExhausted, // ENHANCE_YOUR_CALM
            12 => Status::PermissionDenied,  // INADEQUATE_SECURITY
            _ => Status::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names() {
        assert_eq!(ALL.len(), 17);
        for code in 0..=255 {
            match Status::from_code(code) {
                Some(status) => {
                    assert_eq!(status.code(), code);
                    assert_eq!(Status::from_name(status.name()), Some(status));
                    assert_eq!(Status::from_name(&status.name().to_lowercase()), Some(status));
                    assert_eq!(Status::parse(code.to_string().as_bytes()), Some(status));
                }
                None => assert!(code > 16),
            }
        }
        assert_eq!(Status::from_name("nope"), None);
    }

    #[test]
    fn values() {
        fn check(value: &str, expected: Option<Status>) {
            assert_eq!(Status::parse(value.as_bytes()), expected, "{value:?}");
        }
        check("0", Some(Status::Ok));
        check("4", Some(Status::DeadlineExceeded));
        check("16", Some(Status::Unauthenticated));
        check("17", Some(Status::Unknown));
        check("99", Some(Status::Unknown));
        check("256", Some(Status::Unknown));
        check("99999999999999999999999", Some(Status::Unknown));
        check("", None);
        check("00", None);
        check("04", None);
        check("-1", None);
        check("+1", None);
        check("1 ", None);
        check("1x", None);
        check("OK", None);
    }

    #[test]
    fn http() {
        fn check(status: u16, http: Status, refusal: Status) {
            assert_eq!(Status::from_http(status), http, "{status}");
            assert_eq!(Status::from_refusal(status), refusal, "{status} of our own");
        }
        use Status::*;
        check(200, Unknown, Unknown);
        check(302, Unknown, Unknown);
        check(400, Internal, Internal);
        check(401, Unauthenticated, Unauthenticated);
        check(403, PermissionDenied, PermissionDenied);
        check(404, Unimplemented, Unimplemented);
        check(405, Unknown, Unimplemented);
        check(408, Unknown, DeadlineExceeded);
        check(411, Unknown, Internal);
        check(413, Unknown, ResourceExhausted);
        check(414, Unknown, ResourceExhausted);
        check(415, Unknown, Internal);
        check(421, Unknown, Unavailable);
        check(429, Unavailable, Unavailable);
        check(431, Internal, Internal);
        check(499, Unknown, Cancelled);
        check(500, Unknown, Internal);
        check(501, Unknown, Unimplemented);
        check(502, Unavailable, Unavailable);
        check(503, Unavailable, Unavailable);
        check(504, Unavailable, Unavailable);
        check(505, Unknown, Internal);
        check(599, Unknown, Unknown);
    }

    #[test]
    fn resets() {
        fn check(code: u32, expected: Status) {
            assert_eq!(Status::from_reset(code), expected, "{code}");
        }
        check(0, Status::Internal);
        check(1, Status::Internal);
        check(2, Status::Internal);
        check(7, Status::Unavailable);
        check(8, Status::Cancelled);
        check(11, Status::ResourceExhausted);
        check(12, Status::PermissionDenied);
        check(99, Status::Internal);
    }
}
