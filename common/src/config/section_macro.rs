//! How the sections are written down: one list of keys makes the structs, their defaults, the reference and the help.

/// A section holds keys, and after them sections of its own.
macro_rules! sections {
    ($(
        $(#[doc = $section_doc:literal])+
        $section:ident: $name:ident {
            $($(#[doc = $doc:literal])+ $field:ident: $type:ty = $default:expr;)+
            $(section {
                $(#[doc = $inner_section_doc:literal])+
                $inner_section:ident: $inner_name:ident {
                    $($(#[doc = $inner_doc:literal])+
                        $inner_field:ident: $inner_type:ty = $inner_default:expr;)+
                }
            })*
        }
    )+) => {
        $(
            $(#[doc = $section_doc])+
            #[derive(Debug, Clone, PartialEq)]
            pub struct $name {
                $($(#[doc = $doc])+ pub $field: $type,)+
                $($(#[doc = $inner_section_doc])+ pub $inner_section: $inner_name,)*
            }

            impl Default for $name {
                fn default() -> Self {
                    Self {
                        $($field: $default,)+
                        $($inner_section: $inner_name::default(),)*
                    }
                }
            }

            $(
                $(#[doc = $inner_section_doc])+
                #[derive(Debug, Clone, PartialEq)]
                pub struct $inner_name {
                    $($(#[doc = $inner_doc])+ pub $inner_field: $inner_type,)+
                }

                impl Default for $inner_name {
                    fn default() -> Self {
                        Self { $($inner_field: $inner_default,)+ }
                    }
                }
            )*
        )+

        /// The resolved configuration: every key has a value.
        #[derive(Debug, Clone, PartialEq, Default)]
        pub struct Config {
            $($(#[doc = $section_doc])+ pub $section: $name,)+
        }

        impl Config {
            /// Every key with its value, in the order of the reference.
            #[must_use]
            pub fn entries(&self) -> Vec<(&'static str, toml::Value)> {
                vec![$(
                    $((
                        concat!(stringify!($section), ".", stringify!($field)),
                        self.$section.$field.write(),
                    ),)+
                    $($((
                        concat!(stringify!($section), ".", stringify!($inner_section), ".",
                            stringify!($inner_field)),
                        self.$section.$inner_section.$inner_field.write(),
                    ),)+)*
                )+]
            }

            /// Sets the key `path`; says whether `value` is of its type. Unknown keys are not of any type.
            pub(super) fn assign(&mut self, path: &str, value: &Value) -> bool {
                match path {
                    $(
                        $(concat!(stringify!($section), ".", stringify!($field)) => {
                            <$type as Setting>::read(value)
                                .map(|read| self.$section.$field = read)
                                .is_some()
                        })+
                        $($(concat!(stringify!($section), ".", stringify!($inner_section), ".",
                            stringify!($inner_field)) => {
                            <$inner_type as Setting>::read(value)
                                .map(|read| self.$section.$inner_section.$inner_field = read)
                                .is_some()
                        })+)*
                    )+
                    _ => false,
                }
            }
        }

        /// The sections with their meaning, in the order of the reference.
        pub static SECTIONS: &[(&str, &str)] =
            &[$(
                (stringify!($section), concat!($($section_doc),+).trim_ascii()),
                $((
                    concat!(stringify!($section), ".", stringify!($inner_section)),
                    concat!($($inner_section_doc),+).trim_ascii(),
                ),)*
            )+];

        /// Every key, in the order of the reference.
        pub static KEYS: LazyLock<Vec<KeyDoc>> = LazyLock::new(|| {
            let defaults = Config::default();
            vec![$(
                $(KeyDoc {
                    path: concat!(stringify!($section), ".", stringify!($field)),
                    expected: <$type as Setting>::EXPECTED,
                    default: defaults.$section.$field.write().to_string(),
                    doc: concat!($($doc),+).trim().to_owned(),
                    is_text: <$type as Setting>::IS_TEXT,
                },)+
                $($(KeyDoc {
                    path: concat!(stringify!($section), ".", stringify!($inner_section), ".",
                        stringify!($inner_field)),
                    expected: <$inner_type as Setting>::EXPECTED,
                    default: defaults.$section.$inner_section.$inner_field.write().to_string(),
                    doc: concat!($($inner_doc),+).trim().to_owned(),
                    is_text: <$inner_type as Setting>::IS_TEXT,
                },)+)*
            )+]
        });
    };
}
