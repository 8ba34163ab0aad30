//! Pictures as text: each character is the upper half block, whose foreground is the upper of two pixels and whose
//! background is the lower one, in 24-bit colour. Pure functions.

use std::fmt::Write as _;

use springbok_actor::environment::Frame;

const UPPER_HALF: char = '\u{2580}';
const BELOW_THE_PICTURE: [u8; 3] = [0; 3];

/// A picture in characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cells {
    columns: usize,
    rows: usize,
    /// Colours of the upper and the lower pixel, `[rows, columns]`.
    colours: Vec<[[u8; 3]; 2]>,
}

impl Cells {
    /// `frame`, made smaller until it fits `columns_max` x `rows_max` characters; never larger. Each pixel is the mean
    /// of those that it stands for.
    pub(super) fn of(frame: &Frame, columns_max: usize, rows_max: usize) -> Self {
        let [width, height] = fitted([frame.width, frame.height], [columns_max, 2 * rows_max]);
        let pixel = |x: usize, y: usize| {
            if y < height {
                mean(
                    frame,
                    part(x, width, frame.width),
                    part(y, height, frame.height),
                )
            } else {
                BELOW_THE_PICTURE
            }
        };
        let rows = height.div_ceil(2);
        let mut colours = Vec::with_capacity(width * rows);
        for row in 0..rows {
            colours.extend((0..width).map(|x| [pixel(x, 2 * row), pixel(x, 2 * row + 1)]));
        }
        Self {
            columns: width,
            rows,
            colours,
        }
    }

    /// Lines of text that it takes.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// What turns a terminal that shows `shown` into one that shows this picture, from its upper left corner: only
    /// the characters that differ. If the sizes differ, or nothing is known of what it shows, all is cleared first.
    pub(super) fn changes_from(&self, shown: Option<&Self>) -> String {
        let shown = shown.filter(|shown| (shown.columns, shown.rows) == (self.columns, self.rows));
        let mut pen = Pen::default();
        if shown.is_none() {
            pen.text.push_str("\x1b[0m\x1b[2J");
        }
        for (index, &cell) in self.colours.iter().enumerate() {
            if shown.is_none_or(|shown| shown.colours.get(index) != Some(&cell)) {
                pen.draw(index / self.columns, index % self.columns, cell);
                if (index + 1) % self.columns == 0 {
                    // Behind the last column terminals differ in where the cursor is.
                    pen.at = None;
                }
            }
        }
        if pen.colours != [None; 2] {
            pen.text.push_str("\x1b[0m");
        }
        pen.text
    }
}

/// Writes characters and remembers what the terminal knows already.
#[derive(Default)]
struct Pen {
    text: String,
    /// Row and column of the cursor.
    at: Option<(usize, usize)>,
    /// Foreground and background.
    colours: [Option<[u8; 3]>; 2],
}

impl Pen {
    fn draw(&mut self, row: usize, column: usize, cell: [[u8; 3]; 2]) {
        // Writing into a string cannot fail.
        if self.at != Some((row, column)) {
            let _ = write!(self.text, "\x1b[{};{}H", row + 1, column + 1);
        }
        for ((known, [red, green, blue]), ground) in self.colours.iter_mut().zip(cell).zip([38, 48])
        {
            if known.replace([red, green, blue]) != Some([red, green, blue]) {
                let _ = write!(self.text, "\x1b[{ground};2;{red};{green};{blue}m");
            }
        }
        self.text.push(UPPER_HALF);
        self.at = Some((row, column + 1));
    }
}

/// The largest size of the same proportions within `limits`, at least 1 x 1, and not above `size`.
fn fitted([width, height]: [usize; 2], [width_max, height_max]: [usize; 2]) -> [usize; 2] {
    let [width_max, height_max] = [width_max.max(1), height_max.max(2)];
    let by_width = [
        width.min(width_max),
        (height * width.min(width_max) / width.max(1)).max(1),
    ];
    if by_width[1] <= height_max {
        return by_width;
    }
    [
        (width * height_max / height).clamp(1, width_max),
        height_max,
    ]
}

/// The pixels along one axis of `all` that pixel `index` of `fitted` stands for.
fn part(index: usize, fitted: usize, all: usize) -> std::ops::Range<usize> {
    let first = index * all / fitted;
    first..((index + 1) * all / fitted).max(first + 1).min(all)
}

fn mean(frame: &Frame, columns: std::ops::Range<usize>, rows: std::ops::Range<usize>) -> [u8; 3] {
    let count = (columns.len() * rows.len()).max(1);
    let mut sums = [count / 2; 3];
    for y in rows {
        let start = 3 * (y * frame.width + columns.start);
        let own = frame.rgb.iter().skip(start).take(3 * columns.len());
        for (channel, &value) in own.enumerate() {
            sums[channel % 3] += usize::from(value);
        }
    }
    sums.map(|sum| u8::try_from(sum / count).unwrap_or(u8::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A terminal that understands what is written here, and counts the characters.
    struct Terminal {
        columns: usize,
        cells: Vec<Option<[[u8; 3]; 2]>>,
        at: (usize, usize),
        colours: [Option<[u8; 3]>; 2],
        written: usize,
    }

    impl Terminal {
        fn new(columns: usize, rows: usize) -> Self {
            Self {
                columns,
                cells: vec![None; columns * rows],
                at: (0, 0),
                colours: [None; 2],
                written: 0,
            }
        }

        fn read(&mut self, text: &str) {
            let mut rest = text;
            while let Some(c) = rest.chars().next() {
                let Some(sequence) = rest.strip_prefix("\x1b[") else {
                    assert_eq!(c, UPPER_HALF);
                    assert!(self.at.1 < self.columns, "written behind the last column");
                    let colours = self.colours.map(|colour| colour.expect("a colour was set"));
                    self.cells[self.at.0 * self.columns + self.at.1] = Some(colours);
                    self.at.1 += 1;
                    self.written += 1;
                    rest = &rest[c.len_utf8()..];
                    continue;
                };
                let end = sequence.find(|c: char| c.is_ascii_alphabetic()).unwrap();
                let numbers: Vec<usize> = sequence[..end]
                    .split(';')
                    .map(|number| number.parse().unwrap())
                    .collect();
                match (&sequence[end..=end], numbers.as_slice()) {
                    ("H", &[row, column]) => self.at = (row - 1, column - 1),
                    ("J", [2]) => self.cells.fill(None),
                    ("m", [0]) => self.colours = [None; 2],
                    ("m", &[ground, 2, red, green, blue]) => {
                        let colour = [red, green, blue].map(|value| u8::try_from(value).unwrap());
                        self.colours[(ground - 38) / 10] = Some(colour);
                    }
                    other => panic!("{other:?}"),
                }
                rest = &sequence[end + 1..];
            }
        }

        fn shows(&self, picture: &Cells) {
            for (index, cell) in picture.colours.iter().enumerate() {
                let (row, column) = (index / picture.columns, index % picture.columns);
                assert_eq!(
                    self.cells[row * self.columns + column],
                    Some(*cell),
                    "{index}"
                );
            }
            let drawn = self.cells.iter().flatten().count();
            assert_eq!(
                drawn,
                picture.colours.len(),
                "something else is still there"
            );
        }
    }

    /// A picture with a different colour at each pixel.
    fn picture(width: usize, height: usize) -> Frame {
        let mut frame = Frame::default();
        frame.fill(width, height, [0; 3]);
        for (index, value) in frame.rgb.iter_mut().enumerate() {
            *value = u8::try_from(index * 7 % 256).unwrap();
        }
        frame
    }

    #[test]
    fn a_terminal_that_follows_shows_the_picture_and_only_changes_are_written() {
        let mut terminal = Terminal::new(12, 6);
        let mut frame = picture(12, 9);
        let first = Cells::of(&frame, 12, 6);
        terminal.read(&first.changes_from(None));
        terminal.shows(&first);
        assert_eq!((first.rows(), terminal.written), (5, 60));
        // The last row has a picture only above.
        assert_eq!(first.colours[59][1], BELOW_THE_PICTURE);

        // Two neighbours, the last of a row and the first of the next one.
        for (x, y) in [(3, 0), (4, 1), (11, 4), (0, 6)] {
            frame.set(x, y, [1, 2, 3]);
        }
        let second = Cells::of(&frame, 12, 6);
        terminal.written = 0;
        terminal.read(&second.changes_from(Some(&first)));
        terminal.shows(&second);
        assert_eq!(terminal.written, 4);
        assert_eq!(second.changes_from(Some(&second)), "");

        // Another size clears what the larger picture left behind.
        let third = Cells::of(&picture(5, 4), 12, 6);
        terminal.read(&third.changes_from(Some(&second)));
        terminal.shows(&third);
    }

    #[test]
    fn a_picture_is_made_smaller_to_fit_and_keeps_its_proportions_and_mean_colours() {
        let size = |width, height, columns, rows| {
            let cells = Cells::of(&picture(width, height), columns, rows);
            (cells.columns, cells.rows)
        };
        assert_eq!(size(600, 400, 80, 23), (69, 23));
        assert_eq!(size(600, 100, 80, 23), (80, 7));
        assert_eq!(size(10, 10, 80, 23), (10, 5), "never larger");
        assert_eq!(size(1000, 1, 10, 10), (10, 1));
        assert_eq!(size(1, 1000, 10, 10), (1, 10));

        let mut halves = Frame::default();
        halves.fill(4, 4, [10, 20, 30]);
        halves.rectangle(2, 0, 2, 4, [200, 100, 0]);
        halves.rectangle(0, 0, 2, 1, [20, 40, 50]);
        let cells = Cells::of(&halves, 2, 1);
        let upper_left = [15, 30, 40];
        assert_eq!(
            cells.colours,
            [[upper_left, [10, 20, 30]], [[200, 100, 0], [200, 100, 0]]]
        );
    }
}
