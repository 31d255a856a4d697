using System.Text.Json;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Checkpoints;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Decode;
using Z1Coder.Trainer.Evaluate;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Trainer.Train;

/// <summary>pass@1 of weights in memory: greedy answers to every task, the code taken out of each, run confined against the task's tests.</summary>
public static class PassAt1
{
    private const int Slots = 64;

    /// <summary>As <see cref="Measure"/>, for the weights of a model directory.</summary>
    public static EvaluationSummary Of<T>(ComputeStream stream, string directory, PromptFormat format, IReadOnlyList<HumanEvalTask> tasks, int maxNewTokens, string? answersPath)
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
        ComputeStream stream, Qwen2<T> model, PromptCodec codec, IReadOnlyList<HumanEvalTask> tasks, int maxNewTokens, Sandbox? sandbox, string? answersPath,
        CancellationToken stop = default)
        where T : unmanaged
    {
        var prompts = tasks.Select(t => codec.Prompt(t.Prompt)).ToArray();
        using var engine = new PagedEngine<T>(stream, model, codec.Tokenizer, new DecodeEngineOptions
        {
            Slots = Math.Min(Slots, tasks.Count), Capacity = prompts.Max(p => p.Length) + maxNewTokens + 1,
        });
        var completions = engine.Generate(prompts, new GenerateOptions(maxNewTokens, [codec.EndToken], []), finished: null, stop);
        var samples = tasks.Select((task, i) => new Sample(task.TaskId, CodeExtractor.Extract(completions[i].Text, entryPoint: task.EntryPoint))).ToList();
        var summary = Grader.EvaluateAsync(tasks, samples, new EvaluationOptions { Sandbox = sandbox, K = [1] }, stop)
            .GetAwaiter().GetResult();
        stop.ThrowIfCancellationRequested();      // Ctrl-C also reaches the programs: verdicts made meanwhile do not count
        if (answersPath is not null)
        {
            WriteAnswers(answersPath, tasks, completions, summary);
        }

        return summary;
    }

    private static void WriteAnswers(string path, IReadOnlyList<HumanEvalTask> tasks, Completion[] completions, EvaluationSummary summary)
    {
        var passed = summary.Tasks.ToDictionary(t => t.TaskId, t => t.Passed > 0);
        using var file = File.Create(path);
        for (var i = 0; i < tasks.Count; i++)
        {
            using (var json = new Utf8JsonWriter(file))
            {
                json.WriteStartObject();
                json.WriteString("task_id", tasks[i].TaskId);
                json.WriteString("kind", tasks[i].Kind ?? "");
                json.WriteBoolean("passed", passed.GetValueOrDefault(tasks[i].TaskId));
                json.WriteString("outcome", passed.GetValueOrDefault(tasks[i].TaskId) ? "all tests passed" : "failed");
                json.WriteString("prompt", tasks[i].Prompt);
                json.WriteString("completion", completions[i].Text);
                json.WriteEndObject();
            }

            file.WriteByte((byte)'\n');
        }
    }
}
