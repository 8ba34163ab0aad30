//! A game as a file: an animated GIF, made here, or a film, made by the user's ffmpeg. The file appears whole or not
//! at all.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use gif::{Encoder, Repeat};
use springbok_actor::environment::Frame;
use tempfile::{NamedTempFile, TempPath};

use crate::exit::Failure;

/// How finely colours are chosen: 1 is best, 30 is fastest; 10 is usual (NeuQuant, A. Dekker 1994).
const QUANTISATION: i32 = 10;
/// Hundredths of a second: viewers show faster frames at a tenth of a second instead.
const GIF_DELAY_MIN: u16 = 2;
const FFMPEG: &str = "ffmpeg";

/// A file that pictures of one size are added to.
pub(super) struct Recording {
    path: PathBuf,
    temporary: TempPath,
    fps: u32,
    kind: Kind,
    /// Of the first picture.
    size: [usize; 2],
    writer: Option<Writer>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gif,
    Mp4,
}

enum Writer {
    Gif(Encoder<BufWriter<File>>),
    Ffmpeg(Film),
}

impl Recording {
    /// Prepares a file at `path`; its ending says what kind.
    ///
    /// # Errors
    /// Exit 64 for another ending than `.gif` and `.mp4`, and without ffmpeg for a film; exit 74 if the directory
    /// cannot be written.
    pub(super) fn new(path: &Path, fps: u32) -> Result<Self, Failure> {
        let kind = match path.extension().and_then(|ending| ending.to_str()) {
            Some("gif") => Kind::Gif,
            Some("mp4") => Kind::Mp4,
            _ => {
                return Err(Failure::usage(format!(
                    "--record {} ends in neither .gif nor .mp4, so it is not known what to write",
                    path.display()
                )));
            }
        };
        if kind == Kind::Mp4 {
            find_ffmpeg()?;
        }
        let temporary = temporary_beside(path).map_err(|error| refused(path, &error))?;
        Ok(Self {
            path: path.to_owned(),
            temporary: temporary.into_temp_path(),
            fps,
            kind,
            size: [0; 2],
            writer: None,
        })
    }

    /// Adds a picture.
    ///
    /// # Errors
    /// Exit 64 if it has another size than the first one, or one that the format cannot hold; exit 74 if it cannot be
    /// written.
    pub(super) fn add(&mut self, frame: &Frame) -> Result<(), Failure> {
        let size = [frame.width, frame.height];
        if self.writer.is_none() {
            self.size = size;
            self.writer = Some(self.begin(size)?);
        }
        if size != self.size {
            let [width, height] = self.size;
            return Err(Failure::usage(format!(
                "a picture of {} x {} pixels follows those of {width} x {height}, but all of a recording must have one \
                 size; use --watch instead",
                frame.width, frame.height
            )));
        }
        let [width, height] = gif_size(size).unwrap_or_default();
        match &mut self.writer {
            Some(Writer::Gif(encoder)) => {
                let mut picture =
                    gif::Frame::from_rgb_speed(width, height, &frame.rgb, QUANTISATION);
                picture.delay = gif_delay(self.fps);
                encoder
                    .write_frame(&picture)
                    .map_err(|error| refused(&self.path, &error))
            }
            Some(Writer::Ffmpeg(film)) => film.add(&frame.rgb).map_err(|error| {
                let said = film.end().err().unwrap_or_else(|| error.to_string());
                refused(&self.path, &said)
            }),
            None => Ok(()),
        }
    }

    fn begin(&self, size: [usize; 2]) -> Result<Writer, Failure> {
        match self.kind {
            Kind::Gif => {
                let Some([width, height]) = gif_size(size) else {
                    return Err(Failure::usage(format!(
                        "a picture of {} x {} pixels is too large for a GIF, which holds {} x {0}; use .mp4",
                        size[0],
                        size[1],
                        u16::MAX
                    )));
                };
                let begin = || {
                    let file = File::create(&self.temporary)?;
                    let mut encoder = Encoder::new(BufWriter::new(file), width, height, &[])?;
                    encoder.set_repeat(Repeat::Infinite)?;
                    Ok::<_, gif::EncodingError>(encoder)
                };
                let encoder = begin().map_err(|error| refused(&self.path, &error))?;
                Ok(Writer::Gif(encoder))
            }
            Kind::Mp4 => {
                let film = Film::begin(size, self.fps, &self.temporary)
                    .map_err(|error| refused(&self.path, &error))?;
                Ok(Writer::Ffmpeg(film))
            }
        }
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// Exit 74 if it cannot be written.
    pub(super) fn finish(self) -> Result<(), Failure> {
        let ended = match self.writer {
            Some(Writer::Gif(encoder)) => encoder
                .into_inner()
                .map_err(|error| error.to_string())
                .and_then(|file| file.into_inner().map_err(|error| error.to_string()))
                .and_then(|file| file.sync_all().map_err(|error| error.to_string())),
            Some(Writer::Ffmpeg(mut film)) => film.end(),
            None => Ok(()),
        };
        ended.map_err(|error| refused(&self.path, &error))?;
        self.temporary
            .persist(&self.path)
            .map_err(|error| refused(&self.path, &error.error))
    }
}

/// A running ffmpeg.
struct Film {
    child: Child,
}

impl Film {
    fn begin([width, height]: [usize; 2], fps: u32, to: &Path) -> std::io::Result<Self> {
        let mut command = Command::new(FFMPEG);
        command
            .args([
                "-loglevel",
                "error",
                "-y",
                "-f",
                "rawvideo",
                "-pix_fmt",
                "rgb24",
            ])
            .args(["-s", &format!("{width}x{height}"), "-r", &fps.to_string()])
            // Players expect this pixel format, and it needs even sides.
            .args(["-i", "-", "-an", "-pix_fmt", "yuv420p"])
            .args(["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-f", "mp4"])
            .arg(to)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        #[cfg(unix)]
        {
            use std::os::unix::process::CommandExt as _;
            // Ctrl-C is for the game: the film is to be finished.
            command.process_group(0);
        }
        Ok(Self {
            child: command.spawn()?,
        })
    }

    fn add(&mut self, rgb: &[u8]) -> std::io::Result<()> {
        match &mut self.child.stdin {
            Some(stdin) => stdin.write_all(rgb),
            None => Ok(()),
        }
    }

    /// Lets it finish; what it said, if it failed.
    fn end(&mut self) -> Result<(), String> {
        drop(self.child.stdin.take());
        let mut said = Vec::new();
        if let Some(stderr) = &mut self.child.stderr {
            // It says nothing but errors, so there is little to read.
            let _ = std::io::Read::read_to_end(stderr, &mut said);
        }
        let status = self.child.wait().map_err(|error| error.to_string())?;
        if status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&said);
        let last = said.trim().lines().last().unwrap_or_default();
        Err(format!("ffmpeg ended with {status}: {last}"))
    }
}

impl Drop for Film {
    fn drop(&mut self) {
        // One that has ended already only says so.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn find_ffmpeg() -> Result<(), Failure> {
    let found = Command::new(FFMPEG)
        .arg("-version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if found.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    Err(Failure::usage(
        "--record needs the program ffmpeg to make an .mp4, and there is none on PATH; install it or record a .gif",
    ))
}

fn gif_size(size: [usize; 2]) -> Option<[u16; 2]> {
    let [width, height] = size.map(u16::try_from);
    Some([width.ok()?, height.ok()?])
}

/// Hundredths of a second for each picture.
fn gif_delay(fps: u32) -> u16 {
    let hundredths = (100.0 / f64::from(fps.max(1))).round();
    (hundredths as u16).max(GIF_DELAY_MIN)
}

/// A file in the directory of `path`, with ordinary permissions: the umask decides, as for other results.
fn temporary_beside(path: &Path) -> std::io::Result<NamedTempFile> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(directory.unwrap_or(Path::new(".")))
}

fn refused(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::files(format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn picture(width: usize, height: usize, ball: usize) -> Frame {
        let mut frame = Frame::default();
        frame.fill(width, height, [250, 250, 250]);
        frame.rectangle(ball, ball, 3, 3, [200, 30, 30]);
        frame
    }

    #[test]
    fn a_gif_holds_every_picture_at_its_size_and_pace() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("game.gif");
        let mut recording = Recording::new(&path, 25).unwrap();
        for ball in 0..7 {
            recording.add(&picture(20, 12, ball)).unwrap();
        }
        assert!(!path.exists(), "there before it is whole");
        recording.finish().unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);

        let mut options = gif::DecodeOptions::new();
        options.set_color_output(gif::ColorOutput::RGBA);
        let mut decoder = options.read_info(File::open(&path).unwrap()).unwrap();
        let mut seen = 0;
        while let Some(frame) = decoder.read_next_frame().unwrap() {
            assert_eq!((frame.width, frame.height, frame.delay), (20, 12, 4));
            let pixel = &frame.buffer[4 * (20 * seen + seen)..][..3];
            assert!(
                pixel[0] > 150 && pixel[1] < 100,
                "the ball of {seen}: {pixel:?}"
            );
            seen += 1;
        }
        assert_eq!(seen, 7);
    }

    #[test]
    fn what_fails_leaves_no_file_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("game.gif");
        let mut recording = Recording::new(&path, 30).unwrap();
        recording.add(&picture(20, 12, 0)).unwrap();
        let failure = recording.add(&picture(21, 12, 0)).unwrap_err();
        assert_eq!(failure.exit.code(), 64);
        assert!(failure.text.contains("21 x 12"), "{failure}");
        drop(recording);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);

        let missing = directory.path().join("missing").join("game.gif");
        let failure = Recording::new(&missing, 30).err().unwrap();
        assert_eq!(failure.exit.code(), 74);
        for ending in ["game.avi", "game", "game.GIF.part"] {
            let failure = Recording::new(Path::new(ending), 30).err().unwrap();
            assert_eq!(failure.exit.code(), 64);
            assert!(failure.text.contains(ending), "{failure}");
        }
    }

    #[test]
    fn a_gif_is_no_faster_than_viewers_show() {
        assert_eq!([10, 30, 100, 1000].map(gif_delay), [10, 3, 2, 2]);
    }
}
