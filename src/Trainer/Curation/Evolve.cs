using Z1Coder.Trainer.Curation.Teacher;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Curation;

/// <summary>
/// Problem -> a harder or a rarer problem, one operation a problem and run: the output of one run is the input of the next round. What
/// failed to evolve is dropped with the reason (Evol-Instruct's elimination): a copy, a refusal, a text that speaks of its prompt, too few
/// words, or many more than the 10 to 20 asked for.
/// </summary>
public static class Evolve
{
    private const int FewestWords = 6;
    private const int CopyWords = 2;            // a long problem with a sentence more resembles itself too
    private const double Copy = 0.9;

    /// <summary>The prompt file of an operation.</summary>
    public static string PromptOf(EvolveOperation operation) => "evolve-" + operation.ToString().ToLowerInvariant();

    /// <summary>Which of <paramref name="operations"/> a problem gets: a function of its text and a seed alone.</summary>
    public static EvolveOperation Choose(Problem problem, IReadOnlyList<EvolveOperation> operations, ulong seed)
    {
        ArgumentNullException.ThrowIfNull(problem);
        ArgumentNullException.ThrowIfNull(operations);
        return operations[(int)(SplitMix64.Mix((ulong)problem.Key + (SplitMix64.Step * seed)) % (ulong)operations.Count)];
    }

    /// <summary>Asks for one evolved problem.</summary>
    public static async Task<CurationOutcome> AskAsync(
        TeacherClient teacher, PromptFile prompt, DecodingParameters decoding, EvolveOperation operation, int mostAddedWords,
        Problem problem, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(teacher);
        ArgumentNullException.ThrowIfNull(prompt);
        ArgumentNullException.ThrowIfNull(problem);
        if (problem.Text.Length == 0)
        {
            return new CurationOutcome(Verdict.Drop(DropReasons.NotSingleTurn), json => json.WriteString("id", problem.Id));
        }

        var answer = await teacher.AskAsync(prompt.Render(("problem", problem.Text)), decoding, cancellation).ConfigureAwait(false);
        var evolved = new ReplySections(answer.Text)["Problem"];
        return new CurationOutcome(Judge(problem.Text, evolved, answer.IsCut, operation, mostAddedWords), json =>
        {
            json.WriteString("id", problem.Id);
            json.WriteString("question", evolved);
            json.WriteString("response", "");
            json.WriteString("operation", operation.ToString().ToLowerInvariant());
            json.WriteString("parent", problem.Text);
            if (evolved.Length == 0)
            {
                json.WriteString("reply", answer.Text);
            }
        });
    }

    /// <summary>Whether a problem has evolved.</summary>
    internal static Verdict Judge(string problem, string evolved, bool isCut, EvolveOperation operation, int mostAddedWords)
    {
        var (before, after) = (TeacherTexts.Words(problem), TeacherTexts.Words(evolved));
        return isCut ? Verdict.Drop("reply cut")
            : evolved.Length == 0 ? Verdict.Drop("no [Problem] in the reply")
            : TeacherTexts.IsRefusal(evolved) ? Verdict.Drop("refused")
            : TeacherTexts.LeaksPrompt(evolved) ? Verdict.Drop("speaks of the prompt")
            : after < FewestWords ? Verdict.Drop("too short")
            : operation != EvolveOperation.Breadth && after > before + mostAddedWords ? Verdict.Drop("too many words added")
            : string.Equals(problem, evolved, StringComparison.OrdinalIgnoreCase)
                || (after <= before + CopyWords && TeacherTexts.Similarity(problem, evolved) >= Copy)
                ? Verdict.Drop("a copy of the problem")
            : Verdict.Keep;
    }
}
