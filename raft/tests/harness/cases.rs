//! Tables whose rows have names: each row is a test of its own, to be seen, counted and run alone.

/// `cases! { check { name: (arguments); ... } }` makes a test `check::name` of each row, which calls `check`.
macro_rules! cases {
    ($check:ident { $($name:ident: ($($argument:expr),* $(,)?);)* }) => {
        mod $check {
            #[allow(unused_imports, reason = "rows of plain numbers need nothing")]
            use super::*;
            $(
                #[test]
                fn $name() {
                    super::$check($($argument),*);
                }
            )*
        }
    };
}
