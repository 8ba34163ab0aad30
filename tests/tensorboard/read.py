"""Reads the event files of a run by TensorBoard's own code and prints what it found, as JSON."""

import json
import sys

from tensorboard.backend.event_processing import event_accumulator, plugin_event_multiplexer
from tensorboard.plugins.hparams import plugin_data_pb2


def main(folder):
    accumulator = event_accumulator.EventAccumulator(
        folder, size_guidance={"scalars": 0, "histograms": 0, "tensors": 0}
    )
    accumulator.Reload()
    tags = accumulator.Tags()
    scalars = {
        tag: [[point.step, point.wall_time, point.value] for point in accumulator.Scalars(tag)]
        for tag in tags["scalars"]
    }
    histograms = {
        tag: sum(point.histogram_value.num for point in accumulator.Histograms(tag))
        for tag in tags["histograms"]
    }
    text = accumulator.Tensors("configuration/text_summary")[0].tensor_proto.string_val[0].decode()

    # What the dashboards are drawn from: old forms are brought into the new one on the way.
    multiplexer = plugin_event_multiplexer.EventMultiplexer()
    multiplexer.AddRun(folder, name="run")
    multiplexer.Reload()
    hparams = {}
    for tag, content in multiplexer.GetAccumulator("run").PluginTagToContent("hparams").items():
        hparams[tag] = plugin_data_pb2.HParamsPluginData.FromString(content)
    start = hparams["_hparams_/session_start_info"].session_start_info.hparams
    experiment = hparams["_hparams_/experiment"].experiment
    description = multiplexer.SummaryMetadata("run", "lag/versions_mean").summary_description
    print(
        json.dumps(
            {
                "scalars": scalars,
                "histograms": histograms,
                "text": text,
                "hparams": {
                    key: getattr(value, value.WhichOneof("kind")) for key, value in start.items()
                },
                "columns": [info.name for info in experiment.hparam_infos],
                "results": [info.name.tag for info in experiment.metric_infos],
                "status": hparams["_hparams_/session_end_info"].session_end_info.status,
                "plugins": sorted(accumulator.Tags()["tensors"]),
                "description": description,
            }
        )
    )


main(sys.argv[1])
