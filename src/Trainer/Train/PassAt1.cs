using System.Text.Json;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Checkpoints;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Decode;
using Z1Coder.Trainer.Evaluate;
using Z1Coder.Trainer.Evaluate.Benchmarks;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Trainer.Train;

/// <summary>pass@1 of weights in memory: <see cref="ModelEvaluation"/> with greedy answers to tasks of one's own.</summary>
public static class PassAt1
{
    private const int Slots = 64;

    /// <summary>As <see cref="Measure"/>, for the weights of a model directory.</summary>
    public static EvaluationSummary Of<T>(
        ComputeStream stream, string directory, PromptFormat format, IReadOnlyList<HumanEvalTask> tasks, int maxNewTokens,
        string? answersPath)
        where T : unmanaged
    {
        var codec = PromptCodec.Load(directory, format);
        using var weights = HfWeights.Open<T>(directory, stream);
        return Measure(stream, new Qwen2<T>(weights), codec, tasks, maxNewTokens, null, answersPath);
    }

    /// <summary>Answers and grades.</summary>
    /// <param name="stream">where the model runs</param>
    /// <param name="model">the weights</param>
    /// <param name="codec">tokenizer, template and end token</param>
    /// <param name="tasks">HumanEval-format; the prompt is given as a user's turn</param>
    /// <param name="maxNewTokens">longest answer, tokens</param>
    /// <param name="sandbox">runs the programs; one is made where null</param>
    /// <param name="answersPath">one JSON line a task: prompt, answer, outcome; null for none</param>
    /// <param name="stop">ends early by throwing OperationCanceledException; nothing is written then</param>
    public static EvaluationSummary Measure<T>(
        ComputeStream stream, Qwen2<T> model, PromptCodec codec, IReadOnlyList<HumanEvalTask> tasks, int maxNewTokens, Sandbox? sandbox,
        string? answersPath, CancellationToken stop = default)
        where T : unmanaged
    {
        var benchmark = new TaskFileBenchmark();
        var options = AnswerOptions.Of(benchmark) with { MaxNewTokens = maxNewTokens };
        using var evaluation = ModelEvaluation.Prepare(
            benchmark, [.. tasks.Select(TaskFileBenchmark.TaskOf)], codec, [codec.EndToken], options);
        var sizes = new DecodeEngineOptions { Slots = Math.Min(Slots, tasks.Count), Capacity = evaluation.LongestSequence };
        using var engine = new PagedEngine<T>(stream, model, codec.Tokenizer, sizes);
        var grading = new EvaluationOptions { Sandbox = sandbox, K = [1] };
        var summary = evaluation.RunAsync(() => engine, grading, stop).GetAwaiter().GetResult().Plain;
        if (answersPath is not null)
        {
            WriteAnswers(answersPath, evaluation, summary);
        }

        return summary;
    }

    private static void WriteAnswers(string path, ModelEvaluation evaluation, EvaluationSummary summary)
    {
        var passed = summary.Tasks.ToDictionary(t => t.TaskId, t => t.Passed > 0);
        using var file = File.Create(path);
        foreach (var (task, answer) in evaluation.Tasks.Zip(evaluation.Answers))
        {
            using (var json = new Utf8JsonWriter(file))
            {
                json.WriteStartObject();
                json.WriteString("task_id", task.TaskId);
                json.WriteString("kind", task.Kind ?? "");
                json.WriteBoolean("passed", passed.GetValueOrDefault(task.TaskId));
                json.WriteString("outcome", passed.GetValueOrDefault(task.TaskId) ? "all tests passed" : "failed");
                json.WriteString("prompt", task.Prompt);
                json.WriteString("completion", answer!.Text);
                json.WriteEndObject();
            }

            file.WriteByte((byte)'\n');
        }
    }
}
