using System.Text.Json;
using Z1Coder.Trainer.Decode;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>What a model wrote to one task.</summary>
/// <param name="TaskId">The task.</param>
/// <param name="Sample">Which of the answers to it, from 0.</param>
/// <param name="Text">The text after the task's prefix, cut before a stop string.</param>
/// <param name="Finish">Why it ended: end_token, stop, length, or <see cref="PromptTooLong"/>.</param>
/// <param name="Tokens">Tokens written.</param>
public sealed record Answer(string TaskId, int Sample, string Text, string Finish, int Tokens)
{
    /// <summary>The prompt does not fit into the context; nothing was asked.</summary>
    public const string PromptTooLong = "prompt_too_long";

    /// <summary>A completion as an answer.</summary>
    internal static Answer Of(AnswerRequest request, Completion completion)
    {
        var finish = completion.Finish switch
        {
            FinishReason.EndToken => "end_token",
            FinishReason.StopString => "stop",
            _ => "length",
        };
        return new Answer(request.Task.TaskId, request.Sample, completion.Text, finish, completion.Tokens.Length);
    }

    /// <summary>The code that is graded.</summary>
    internal Sample ToSample(Benchmark benchmark, BenchmarkTask task) => Finish == PromptTooLong
        ? new Sample(TaskId, "", CompletionMode.Program) { IsUnanswered = true }
        : benchmark.Extract(task, Text);

    /// <summary>Writes the answer's properties, and the prompt it answers, into an open object.</summary>
    internal void Write(Utf8JsonWriter json, AnswerRequest request)
    {
        json.WriteString("task_id", TaskId);
        json.WriteNumber("sample", Sample);
        json.WriteString("kind", request.Task.Kind);
        json.WriteString("tests", request.Tests);
        json.WriteString("prompt", request.Task.Prompt);
        json.WriteString("completion", Text);
        json.WriteString("finish", Finish);
        json.WriteNumber("tokens", Tokens);
    }
}
