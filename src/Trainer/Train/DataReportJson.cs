using System.Text.Json;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Train;

/// <summary>A stage's data report as a file beside its metrics.</summary>
internal static class DataReportJson
{
    public static void Write(string path, DataReport report)
    {
        using var file = File.Create(path);
        using var json = new Utf8JsonWriter(file, new JsonWriterOptions { Indented = true });
        json.WriteStartObject();
        json.WriteNumber("records", report.Records);
        json.WriteNumber("train_samples", report.TrainSamples);
        json.WriteNumber("eval_samples", report.EvalSamples);
        json.WriteNumber("tokens", report.Tokens);
        json.WriteNumber("loss_tokens", report.LossTokens);
        json.WriteNumber("longest_sample", report.LongestSample);
        json.WriteNumber("truncated", report.Truncated);
        json.WriteNumber("tokens_cut", report.TokensCut);
        json.WriteNumber("lost_end_token", report.LostEndToken);
        json.WriteNumber("end_token_inside", report.EndTokenInside);
        DropCountJson.Write(json, "left_out", report.Drops);
        json.WriteEndObject();
    }
}
