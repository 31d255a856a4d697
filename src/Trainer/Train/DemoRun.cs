using System.Diagnostics;
using System.Text.Json;
using Z1Coder.Kernels;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Curation.Nano;
using Z1Coder.Trainer.Evaluate;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Trainer.Train;

/// <summary>
/// The whole recipe in small, from nothing: problems are generated, a scripted teacher writes reasoning, a tokenizer is trained, a model is
/// trained from random weights in two SFT stages, and pass@1 is measured by running its programs on held-out problems before, between and after.
/// </summary>
public static class DemoRun
{
    /// <summary>The demo's own recipe, in the repository; a copy is built in.</summary>
    internal const string OwnRecipe = "recipes/nano/nano.yaml";

    /// <summary>Runs everything and writes summary.json.</summary>
    /// <param name="recipeFile">another recipe over the same corpus; null for the demo's own</param>
    /// <param name="overrides">--set entries</param>
    /// <param name="directory">the run; an earlier one there becomes DIR.1, DIR.2, …, once this one's recipe and options are found right</param>
    /// <param name="vocabulary">tokens the tokenizer learns at most</param>
    /// <param name="stream">where it runs</param>
    /// <param name="output">plain lines for a person</param>
    public static bool Execute(
        string? recipeFile, IReadOnlyList<string> overrides, string directory, int vocabulary, ComputeStream stream, TextWriter output)
    {
        var clock = Stopwatch.StartNew();
        var (data, tokenizer) = (Path.Combine(directory, "data"), Path.Combine(directory, "tokenizer"));
        var recipe = Recipe(
            recipeFile,
            [
                $"tokenizer.from={tokenizer}", $"eval.tasks={Path.Combine(data, NanoCorpus.Probe)}",
                .. StageFiles(recipeFile, overrides, data), .. overrides,
            ]);
        TokenizerTrainer.Check(vocabulary);
        KeepEarlier(directory);
        var manifest = NanoCorpus.Write(data, new NanoOptions { Seed = (ulong)recipe.Seed });
        output.WriteLine(
            $"corpus: {manifest.Options.Stage1Problems} + {manifest.Options.Stage2Problems} training problems with a scripted teacher's reasoning, "
            + $"{manifest.Options.HeldOutPlain} + {manifest.Options.HeldOutSelfInvoking} held out");
        ChatTokenizer.Train([Path.Combine(data, NanoCorpus.Stage1), Path.Combine(data, NanoCorpus.Stage2)], vocabulary, tokenizer);
        output.WriteLine($"tokenizer: {vocabulary} tokens learnt ({clock.Elapsed.TotalSeconds:F0} s so far)");

        var tasks = HumanEvalTask.Read(Path.Combine(data, NanoCorpus.HeldOut));
        var scores = new List<(string Weights, EvaluationSummary Summary)>
        {
            ("random", recipe.DType == "fp32" ? Random<float>(stream, recipe, tokenizer, tasks) : Random<BFloat16>(stream, recipe, tokenizer, tasks)),
        };
        Print(scores[^1], output);
        using var alone = RankWorld.Alone();
        if (!TrainRun.Execute(recipe, directory, resume: false, stream, alone, output))
        {
            return false;
        }

        foreach (var stage in recipe.Stages)
        {
            var folder = Path.Combine(directory, stage.Name);
            var model = Path.Combine(folder, RunFiles.Model);
            scores.Add((stage.Name, recipe.DType == "fp32"
                ? PassAt1.Of<float>(stream, model, stage.Data.Format, tasks, stage.Eval.MaxNewTokens, Path.Combine(folder, RunFiles.Answers))
                : PassAt1.Of<BFloat16>(stream, model, stage.Data.Format, tasks, stage.Eval.MaxNewTokens, Path.Combine(folder, RunFiles.Answers))));
            Print(scores[^1], output);
        }

        WriteSummary(directory, recipe, scores, clock.Elapsed.TotalSeconds);
        return true;
    }

    /// <summary>A recipe's file, or the demo's own: that of the working directory, else the built-in copy.</summary>
    internal static TrainRecipe Recipe(string? file, IEnumerable<string> overrides, string own = OwnRecipe)
    {
        if (file is not null || File.Exists(own))
        {
            return TrainRecipe.Load(file ?? own, overrides);
        }

        using var reader = new StreamReader(typeof(DemoRun).Assembly.GetManifestResourceStream(OwnRecipe)!);
        return TrainRecipe.From(RecipeTree.Parse(own, reader.ReadToEnd(), overrides), own);
    }

    private static void KeepEarlier(string directory)
    {
        if (!Directory.Exists(directory))
        {
            return;
        }

        var number = 1;
        while (Directory.Exists($"{directory}.{number}"))
        {
            number++;
        }

        Directory.Move(directory, $"{directory}.{number}");
    }

    /// <summary>Overrides that point each stage's data at the corpus: stageN to stageN.jsonl, or its answers-only twin where the recipe reads that.</summary>
    private static IEnumerable<string> StageFiles(string? recipeFile, IReadOnlyList<string> overrides, string data)
    {
        var stages = Recipe(recipeFile, overrides).Stages;
        for (var i = 0; i < stages.Count; i++)
        {
            for (var f = 0; f < stages[i].Data.Files.Count; f++)
            {
                yield return $"stages.{i}.data.files.{f}={Path.Combine(data, Path.GetFileName(stages[i].Data.Files[f]))}";
            }
        }
    }

    private static EvaluationSummary Random<T>(ComputeStream stream, TrainRecipe recipe, string tokenizer, IReadOnlyList<HumanEvalTask> tasks)
        where T : unmanaged
    {
        var codec = PromptCodec.Load(tokenizer, recipe.Stages[0].Data.Format);
        var config = recipe.Model.Shapes! with { VocabSize = codec.Tokenizer.VocabularySize };
        using var master = new ParameterSet<float>("weights", new Qwen2Parameters(config), stream);
        using var weights = new ParameterSet<T>("weights", master.Parameters, stream);
        master.Arena.Allocate();
        weights.Arena.Allocate();
        RandomWeights.Fill(master, recipe.Seed, recipe.Model.InitializerRange);
        for (var i = 0; i < master.Tensors.Length; i++)
        {
            Cast.Round(stream, master.Tensors[i], weights.Tensors[i]);
        }

        return PassAt1.Measure(stream, new Qwen2<T>(weights), codec, tasks, recipe.Stages[0].Eval.MaxNewTokens, null, null);
    }

    private static void Print((string Weights, EvaluationSummary Summary) score, TextWriter output)
    {
        var kinds = string.Join(", ", score.Summary.Kinds.Select(k => $"{k.Kind} {k.PassAt1:P0} [{k.Interval.Low:P0}, {k.Interval.High:P0}]"));
        output.WriteLine($"pass@1 of {score.Weights} weights on {score.Summary.Tasks.Count} held-out problems: {kinds}");
    }

    private static void WriteSummary(string directory, TrainRecipe recipe, List<(string Weights, EvaluationSummary Summary)> scores, double seconds)
    {
        var (tokens, trainSeconds) = (0L, 0.0);
        foreach (var stage in recipe.Stages)
        {
            foreach (var line in File.ReadLines(Path.Combine(directory, stage.Name, RunFiles.Metrics)))
            {
                using var json = JsonDocument.Parse(line);
                if (json.RootElement.GetProperty("type").GetString() == "step")
                {
                    tokens += json.RootElement.GetProperty("tokens").GetInt64();
                    trainSeconds += json.RootElement.GetProperty("seconds").GetDouble();
                }
            }
        }

        using var file = File.Create(Path.Combine(directory, RunFiles.Summary));
        using var writer = new Utf8JsonWriter(file, new JsonWriterOptions { Indented = true });
        writer.WriteStartObject();
        writer.WriteString("recipe", recipe.Name);
        writer.WriteNumber("seed", recipe.Seed);
        writer.WriteNumber("wall_seconds", Math.Round(seconds, 1));
        writer.WriteNumber("training_tokens", tokens);
        writer.WriteNumber("training_seconds", Math.Round(trainSeconds, 1));
        writer.WriteNumber("training_tokens_per_second", Math.Round(tokens / trainSeconds));
        writer.WriteString("machine", RunEnvironment.Machine);
        writer.WriteStartArray("pass_at_1");
        foreach (var (weights, summary) in scores)
        {
            writer.WriteStartObject();
            writer.WriteString("weights", weights);
            Score(writer, summary.PassAt1, summary.Interval, summary.Tasks.Sum(t => t.Passed), summary.Tasks.Count);
            writer.WriteStartObject("kinds");
            foreach (var kind in summary.Kinds)
            {
                writer.WriteStartObject(kind.Kind);
                Score(writer, kind.PassAt1, kind.Interval, summary.Tasks.Where(t => t.Kind == kind.Kind).Sum(t => t.Passed), kind.Tasks);
                writer.WriteEndObject();
            }

            writer.WriteEndObject();
            writer.WriteEndObject();
        }

        writer.WriteEndArray();
        writer.WriteEndObject();
    }

    private static void Score(Utf8JsonWriter writer, double passAt1, Interval interval, int solved, int tasks)
    {
        writer.WriteNumber("pass_at_1", passAt1);
        writer.WriteNumber("low", Math.Round(interval.Low, 4));
        writer.WriteNumber("high", Math.Round(interval.High, 4));
        writer.WriteNumber("solved", solved);
        writer.WriteNumber("tasks", tasks);
    }
}
