using System.Text.Json;
using Z1Coder.Trainer.Curation.Teacher;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Curation;

/// <summary>
/// Problem -> the teacher's reasoning and answer, whole and unfiltered: what is cut or has no code is for <c>z1 curate filter</c> to say.
/// The published run asked QwQ-32B-Preview with one text (recipes/prompts/trajectory.txt), temperature 0 and at most 4,096 tokens.
/// </summary>
public static class Trajectories
{
    /// <summary>The prompt file's name.</summary>
    public const string Prompt = "trajectory";

    /// <summary>Asks for one problem's trajectory.</summary>
    public static async Task<CurationOutcome> AskAsync(
        TeacherClient teacher, PromptFile prompt, DecodingParameters decoding, Problem problem, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(teacher);
        ArgumentNullException.ThrowIfNull(prompt);
        ArgumentNullException.ThrowIfNull(problem);
        if (problem.Text.Length == 0)
        {
            return new CurationOutcome(Verdict.Drop(DropReasons.NotSingleTurn), json => json.WriteString("id", problem.Id));
        }

        var answer = await teacher.AskAsync(prompt.Render(("problem", problem.Text)), decoding, cancellation).ConfigureAwait(false);
        var verdict = string.IsNullOrWhiteSpace(answer.Text) ? Verdict.Drop(DropReasons.EmptyResponse) : Verdict.Keep;
        return new CurationOutcome(verdict, json => Write(json, problem.Id, problem.Text, answer));
    }

    /// <summary>The fields of a training record: id, question, response, and how the answer ended.</summary>
    internal static void Write(Utf8JsonWriter json, string id, string question, TeacherAnswer answer)
    {
        json.WriteString("id", id);
        json.WriteString("question", question);
        json.WriteString("response", answer.Text);
        json.WriteString("finish_reason", answer.FinishReason);
        json.WriteNumber("prompt_tokens", answer.PromptTokens);
        json.WriteNumber("completion_tokens", answer.CompletionTokens);
    }
}
