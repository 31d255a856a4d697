using System.Text.Json;
using Xunit;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Tests.Trainer.Cli;

/// <summary>A folder with a recipe of two stages, twelve steps each and ending in mid-epoch, its data and its tokenizer; gone with the test.</summary>
internal sealed class TinyRun : IDisposable
{
    public const int StepsPerStage = 12;

    private const int Records = 44;

    private static readonly Lock s_lock = new();
    private static string? s_tokenizer;

    public TinyRun()
    {
        Directory.CreateDirectory(this["tokenizer"]);
        WriteData("stage1", 1);
        WriteData("stage2", 2);
        foreach (var file in Directory.GetFiles(Tokenizer()))
        {
            File.Copy(file, Path.Combine(this["tokenizer"], Path.GetFileName(file)));
        }

        File.WriteAllText(Recipe,
            $$"""
            name: tiny
            seed: 3
            model:
              initializer_range: 0.05
              shapes: {hidden_size: 16, num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 1, head_dim: 8, intermediate_size: 32,
                       max_position_embeddings: 160, rope_theta: 10000}
            tokenizer: {from: {{this["tokenizer"]}}}
            data: {max_length: 128, eval_fraction: 0.1}
            train: {epochs: 3, max_steps: {{StepsPerStage}}, batch_samples: 8, micro_batch_tokens: 256, lr: 1e-2, warmup_steps: 2}
            eval: {loss_every: 4}
            checkpoint: {every: 3, keep: 2}
            stages:
              - name: stage1
                data: {files: [{{this["stage1.jsonl"]}}]}
              - name: stage2
                data: {files: [{{this["stage2.jsonl"]}}]}
            """);
    }

    public string Folder { get; } = Directory.CreateTempSubdirectory("z1-cli-").FullName;

    public string Recipe => this["recipe.yaml"];

    public string this[string name] => Path.Combine(Folder, name);

    /// <summary>The arguments of a training run into a directory of this folder.</summary>
    public string[] Train(string output, params string[] more) => ["train", Recipe, "--out", this[output], .. more];

    /// <summary>Only the first stage, so many steps: the second stage is cut off the recipe.</summary>
    public void KeepOneStage(int steps)
    {
        var text = File.ReadAllText(Recipe).Replace($"max_steps: {StepsPerStage}", $"max_steps: {steps}", StringComparison.Ordinal);
        File.WriteAllText(Recipe, text[..text.IndexOf("  - name: stage2", StringComparison.Ordinal)]);
    }

    /// <summary>The model after the last stage.</summary>
    public byte[] FinalModel(string output) => File.ReadAllBytes(Path.Combine(this[output], "stage2", "model", "model.safetensors"));

    /// <summary>Every line of both stages' metrics without what depends on the clock; the numbers as they are written, so to the bit.</summary>
    public List<string> Metrics(string output, params string[] stages) =>
    [
        .. (stages.Length > 0 ? stages : ["stage1", "stage2"]).SelectMany(stage => File.ReadLines(Path.Combine(this[output], stage, "metrics.jsonl")).Select(line =>
        {
            using var json = JsonDocument.Parse(line);
            return $"{stage}: " + string.Join(", ", json.RootElement.EnumerateObject()
                .Where(p => p.Name is not ("seconds" or "tokens_per_second" or "mfu")).Select(p => $"{p.Name}={p.Value.GetRawText()}"));
        })),
    ];

    public void Dispose() => Directory.Delete(Folder, recursive: true);

    private void WriteData(string stage, int factor) => File.WriteAllLines(this[$"{stage}.jsonl"], Enumerable.Range(0, Records).Select(i =>
        JsonSerializer.Serialize(new Dictionary<string, string>
        {
            ["id"] = $"{stage}-{i}", ["question"] = $"Add {i} to {factor * i}.", ["response"] = $"The sum is {i + (factor * i)}. def add(): return {i + (factor * i)}",
        })));

    /// <summary>Trained once for all tests of this process.</summary>
    private string Tokenizer()
    {
        lock (s_lock)
        {
            if (s_tokenizer is null)
            {
                var folder = Directory.CreateTempSubdirectory("z1-tokenizer-").FullName;
                ChatTokenizer.Train([this["stage1.jsonl"], this["stage2.jsonl"]], 300, folder);
                AppDomain.CurrentDomain.ProcessExit += (_, _) => Directory.Delete(folder, recursive: true);
                s_tokenizer = folder;
            }

            return s_tokenizer;
        }
    }
}
