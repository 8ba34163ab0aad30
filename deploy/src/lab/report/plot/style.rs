//! Colours and markers: eight that people with any colour vision can tell apart, with the markers and dashes that tell
//! them apart without colour; and the style sheets.

use std::fmt::Write as _;

/// (light, dark) of each series, after Okabe and Ito, darkened and lightened until each has a contrast of 3 and more.
pub(crate) const SERIES: [(&str, &str); 8] = [
    ("#0072b2", "#56b4e9"),
    ("#d55e00", "#ff9457"),
    ("#00805f", "#2fcf9f"),
    ("#aa4499", "#e79bd6"),
    ("#8f6b00", "#f0c94a"),
    ("#332288", "#a99cff"),
    ("#882255", "#ec7fa6"),
    ("#555555", "#c9c9c9"),
];

/// Dashes of each series' line.
pub(crate) const DASHES: [&str; 8] = ["", "7 3", "2 3", "9 3 2 3", "5 2", "12 4", "3 2 1 2", "1 3"];

/// (class, light, dark) of everything else.
pub(crate) const INK: [(&str, &str, &str); 4] = [
    ("ink", "#1d2430", "#e8eaee"),
    ("soft", "#5a6472", "#a4adba"),
    ("grid", "#dfe3e8", "#353d49"),
    ("paper", "#ffffff", "#161b22"),
];

/// The light colour of series `style`.
pub(crate) fn series(style: usize) -> &'static str {
    SERIES[style % SERIES.len()].0
}

/// The light colour of the class `name`.
pub(crate) fn ink(name: &str) -> &'static str {
    let found = INK.iter().find(|(class, ..)| *class == name);
    found.map_or("#000000", |(_, light, _)| light)
}

/// Rules for the classes of drawings; `dark` chooses the colours.
fn rules(dark: bool) -> String {
    let pick = |light: &'static str, in_dark: &'static str| if dark { in_dark } else { light };
    let mut css = String::new();
    let mut rule = |class: &str, colour: &str| {
        // Writing to a String cannot fail.
        let _ = write!(
            css,
            ".f-{class}{{fill:{colour}}}.l-{class}{{stroke:{colour}}}"
        );
    };
    for (at, (light, in_dark)) in SERIES.iter().enumerate() {
        rule(&format!("s{at}"), pick(light, in_dark));
    }
    for (class, light, in_dark) in INK {
        rule(class, pick(light, in_dark));
    }
    css
}

/// The style sheet of a drawing in a file of its own: only dark screens differ from what it carries already.
pub(crate) fn of_a_file() -> String {
    format!("@media (prefers-color-scheme:dark){{{}}}", rules(true))
}

/// The style sheet of drawings within a page: variables, so that the page's tables and text use the same colours.
pub(crate) fn of_a_page() -> String {
    let mut css = String::new();
    for dark in [false, true] {
        let mut variables = String::new();
        for (at, (light, in_dark)) in SERIES.iter().enumerate() {
            let _ = write!(variables, "--s{at}:{};", if dark { in_dark } else { light });
        }
        for (class, light, in_dark) in INK {
            let _ = write!(
                variables,
                "--{class}:{};",
                if dark { in_dark } else { light }
            );
        }
        css += &if dark {
            format!("@media (prefers-color-scheme:dark){{:root{{{variables}}}}}\n")
        } else {
            format!(":root{{{variables}}}\n")
        };
    }
    let series = (0..SERIES.len()).map(|at| format!("s{at}"));
    for class in series.chain(INK.iter().map(|(class, ..)| (*class).to_owned())) {
        let _ = write!(
            css,
            ".f-{class}{{fill:var(--{class})}}.l-{class}{{stroke:var(--{class})}}"
        );
    }
    css
}
