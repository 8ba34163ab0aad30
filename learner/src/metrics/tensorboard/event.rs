//! The messages of TensorBoard's event files, as far as they are written here, and the frame around each.
//!
//! Names and numbers of fields are those of `event.proto`, `summary.proto`, `tensor.proto` and, for the plugin of
//! hyperparameters, `plugin_data.proto` and `api.proto` (<https://github.com/tensorflow/tensorboard>).

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use prost::Message;

/// What a file begins with.
pub(super) const FILE_VERSION: &str = "brain.Event:2";
/// `SessionLog.SessionStatus.START`: points at this step or later, of files before, count no more.
pub(super) const SESSION_START: i32 = 1;
/// `DataType.DT_FLOAT` and `DataType.DT_STRING`.
const FLOAT: i32 = 1;
const STRING: i32 = 7;
/// `DataClass.DATA_CLASS_TENSOR`.
const TENSOR_CLASS: i32 = 2;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    pub(super) wall_time: f64,
    #[prost(int64, tag = "2")]
    pub(super) step: i64,
    #[prost(string, optional, tag = "3")]
    pub(super) file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    pub(super) summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    pub(super) session_log: Option<SessionLog>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SessionLog {
    #[prost(int32, tag = "1")]
    pub(super) status: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Summary {
    #[prost(message, repeated, tag = "1")]
    pub(super) value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Value {
    #[prost(string, tag = "1")]
    pub(super) tag: String,
    #[prost(float, optional, tag = "2")]
    pub(super) simple_value: Option<f32>,
    #[prost(message, optional, tag = "5")]
    pub(super) histo: Option<Histogram>,
    #[prost(message, optional, tag = "8")]
    pub(super) tensor: Option<Tensor>,
    #[prost(message, optional, tag = "9")]
    pub(super) metadata: Option<Metadata>,
}

/// `HistogramProto`: `bucket[i]` counts what lies above `bucket_limit[i - 1]` and up to `bucket_limit[i]`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Histogram {
    #[prost(double, tag = "1")]
    pub(super) min: f64,
    #[prost(double, tag = "2")]
    pub(super) max: f64,
    #[prost(double, tag = "3")]
    pub(super) num: f64,
    #[prost(double, tag = "4")]
    pub(super) sum: f64,
    #[prost(double, repeated, tag = "6")]
    pub(super) bucket_limit: Vec<f64>,
    #[prost(double, repeated, tag = "7")]
    pub(super) bucket: Vec<f64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Tensor {
    #[prost(int32, tag = "1")]
    pub(super) dtype: i32,
    #[prost(message, optional, tag = "2")]
    pub(super) shape: Option<Shape>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    pub(super) string_val: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Shape {
    #[prost(message, repeated, tag = "2")]
    pub(super) dim: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Dimension {
    #[prost(int64, tag = "1")]
    pub(super) size: i64,
}

/// `SummaryMetadata`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Metadata {
    #[prost(message, optional, tag = "1")]
    pub(super) plugin_data: Option<Plugin>,
    #[prost(string, tag = "3")]
    pub(super) summary_description: String,
    #[prost(int32, tag = "4")]
    pub(super) data_class: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Plugin {
    #[prost(string, tag = "1")]
    pub(super) plugin_name: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) content: Vec<u8>,
}

/// `HParamsPluginData`: one of the three.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Hparams {
    #[prost(message, optional, tag = "2")]
    pub(super) experiment: Option<Experiment>,
    #[prost(message, optional, tag = "3")]
    pub(super) session_start_info: Option<SessionStart>,
    #[prost(message, optional, tag = "4")]
    pub(super) session_end_info: Option<SessionEnd>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Experiment {
    #[prost(message, repeated, tag = "4")]
    pub(super) hparam_infos: Vec<HparamInfo>,
    #[prost(message, repeated, tag = "5")]
    pub(super) metric_infos: Vec<MetricInfo>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct HparamInfo {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "3")]
    pub(super) description: String,
    /// `DataType`: 1 text, 2 true or false, 3 a number.
    #[prost(int32, tag = "4")]
    pub(super) kind: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct MetricInfo {
    #[prost(message, optional, tag = "1")]
    pub(super) name: Option<MetricName>,
    #[prost(string, tag = "4")]
    pub(super) description: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct MetricName {
    #[prost(string, tag = "2")]
    pub(super) tag: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SessionStart {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(super) hparams: BTreeMap<String, Setting>,
    #[prost(double, tag = "5")]
    pub(super) start_time_secs: f64,
}

/// `google.protobuf.Value`: one of the three.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Setting {
    #[prost(double, optional, tag = "2")]
    pub(super) number: Option<f64>,
    #[prost(string, optional, tag = "3")]
    pub(super) text: Option<String>,
    #[prost(bool, optional, tag = "4")]
    pub(super) truth: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SessionEnd {
    /// `Status`: 1 success, 2 failure.
    #[prost(int32, tag = "1")]
    pub(super) status: i32,
    #[prost(double, tag = "2")]
    pub(super) end_time_secs: f64,
}

impl Setting {
    pub(super) fn of_truth(truth: Option<bool>) -> Self {
        Self {
            truth,
            ..Self::default()
        }
    }

    pub(super) fn of_number(number: Option<f64>) -> Self {
        Self {
            number,
            ..Self::default()
        }
    }

    pub(super) fn of_text(text: String) -> Self {
        Self {
            text: Some(text),
            ..Self::default()
        }
    }
}

impl Value {
    /// A number of the plugin that draws curves.
    pub(super) fn scalar(tag: &str, value: f64) -> Self {
        Self {
            tag: tag.to_owned(),
            simple_value: Some(value as f32),
            ..Self::default()
        }
    }

    /// A distribution.
    pub(super) fn histogram(tag: &str, histogram: Histogram) -> Self {
        Self {
            tag: tag.to_owned(),
            histo: Some(histogram),
            ..Self::default()
        }
    }

    /// Markdown.
    pub(super) fn text(tag: &str, markdown: String) -> Self {
        Self {
            tag: tag.to_owned(),
            metadata: Some(Metadata::of("text", Vec::new())),
            tensor: Some(Tensor {
                dtype: STRING,
                shape: Some(Shape {
                    dim: vec![Dimension { size: 1 }],
                }),
                string_val: vec![markdown.into_bytes()],
            }),
            ..Self::default()
        }
    }

    /// A message of the plugin of hyperparameters; it lies in the metadata, the tensor is empty.
    pub(super) fn hparams(tag: &str, hparams: &Hparams) -> Self {
        Self {
            tag: tag.to_owned(),
            metadata: Some(Metadata::of("hparams", hparams.encode_to_vec())),
            tensor: Some(Tensor {
                dtype: FLOAT,
                shape: Some(Shape {
                    dim: vec![Dimension { size: 0 }],
                }),
                string_val: Vec::new(),
            }),
            ..Self::default()
        }
    }
}

impl Metadata {
    fn of(plugin: &str, content: Vec<u8>) -> Self {
        Self {
            plugin_data: Some(Plugin {
                plugin_name: plugin.to_owned(),
                content,
            }),
            summary_description: String::new(),
            data_class: TENSOR_CLASS,
        }
    }

    /// What a curve shows.
    pub(super) fn of_scalar(description: String) -> Self {
        Self {
            plugin_data: Some(Plugin {
                plugin_name: "scalars".to_owned(),
                content: Vec::new(),
            }),
            summary_description: description,
            data_class: 0,
        }
    }
}

/// Writes one record: length (u64), masked CRC32C of the length, data, masked CRC32C of the data, all little-endian
/// (TensorFlow's `record_writer.h`).
///
/// # Errors
/// What the file says.
pub(super) fn write_record(file: &mut impl Write, data: &[u8]) -> io::Result<()> {
    let length = (data.len() as u64).to_le_bytes();
    file.write_all(&length)?;
    file.write_all(&masked(&length).to_le_bytes())?;
    file.write_all(data)?;
    file.write_all(&masked(data).to_le_bytes())
}

/// The checksum of `data`, rotated and shifted, so that the sum of data that holds sums is no trivial one.
fn masked(data: &[u8]) -> u32 {
    crc32c::crc32c(data)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

/// The events of a file; a record whose sums are wrong is a failure.
#[cfg(test)]
pub(super) fn events(mut bytes: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        let (head, rest) = bytes.split_at(12);
        let length = u64::from_le_bytes(head[..8].try_into().unwrap()) as usize;
        assert_eq!(head[8..], masked(&head[..8]).to_le_bytes());
        let (data, rest) = rest.split_at(length);
        assert_eq!(rest[..4], masked(data).to_le_bytes());
        events.push(Event::decode(data).unwrap());
        bytes = &rest[4..];
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_framed_as_tensorflow_does() {
        // RFC 3720, appendix B.4.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        // The first record of any file that TensorFlow or PyTorch writes, at the time 0: known bytes.
        let version = Event {
            file_version: Some(FILE_VERSION.to_owned()),
            ..Event::default()
        };
        let mut file = Vec::new();
        write_record(&mut file, &version.encode_to_vec()).unwrap();
        assert_eq!(
            file,
            b"\x0f\0\0\0\0\0\0\0mS+\t\x1a\rbrain.Event:2\xfc\x98Q)"
        );
        assert_eq!(events(&file), [version]);
    }
}
