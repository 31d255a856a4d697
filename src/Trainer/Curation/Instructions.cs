using Z1Coder.Trainer.Curation.Filters;
using Z1Coder.Trainer.Curation.Teacher;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Curation;

/// <summary>
/// A function of open-source code -> an instruction with its solution, in the manner of OSS-Instruct (Magicoder, arXiv:2312.02120): the
/// code inspires, the teacher writes. What fails a quality rule is dropped with the reason.
/// </summary>
public static class Instructions
{
    /// <summary>The prompt file's name.</summary>
    public const string Prompt = "instruction";

    private const int FewestWords = 12, MostWords = 500;

    /// <summary>The seed's content hash.</summary>
    public static UInt128 KeyOf(SeedFunction seed)
    {
        ArgumentNullException.ThrowIfNull(seed);
        return ContentHash.Of(new SftRecord("", seed.Function.Source, "", ""));
    }

    /// <summary>Asks for one instruction.</summary>
    public static async Task<CurationOutcome> AskAsync(
        TeacherClient teacher, PromptFile prompt, DecodingParameters decoding, SeedFunction seed, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(teacher);
        ArgumentNullException.ThrowIfNull(prompt);
        ArgumentNullException.ThrowIfNull(seed);
        var answer = await teacher.AskAsync(prompt.Render(("code", seed.Function.Source)), decoding, cancellation).ConfigureAwait(false);
        var sections = new ReplySections(answer.Text);
        var (instruction, solution) = (sections["Instruction"], sections["Solution"]);
        return new CurationOutcome(Judge(instruction, solution, answer.IsCut), json =>
        {
            json.WriteString("id", seed.Id);
            json.WriteString("question", instruction);
            json.WriteString("response", solution);
            json.WriteString("source", seed.Path);
            json.WriteString("license", seed.License);
            json.WriteString("seed", seed.Function.Source);
            if (instruction.Length == 0 || solution.Length == 0)
            {
                json.WriteString("reply", answer.Text);
            }
        });
    }

    /// <summary>Whether an instruction and its solution are worth keeping.</summary>
    internal static Verdict Judge(string instruction, string solution, bool isCut)
    {
        var words = TeacherTexts.Words(instruction);
        return isCut ? Verdict.Drop("reply cut")
            : words == 0 ? Verdict.Drop("no [Instruction] in the reply")
            : solution.Length == 0 ? Verdict.Drop("no [Solution] in the reply")
            : TeacherTexts.IsRefusal(instruction) ? Verdict.Drop("refused")
            : words < FewestWords ? Verdict.Drop("instruction too short")
            : words > MostWords ? Verdict.Drop("instruction too long")
            : TeacherTexts.NamesSeed(instruction) ? Verdict.Drop("speaks of code that nobody has seen")
            : !CodeBlocks.Of(solution).Python || CodeBlocks.Of(solution).Unclosed ? Verdict.Drop(FilterReasons.NotPython)
            : PythonSource.LastFunction(Evaluate.CodeExtractor.Extract(solution)) is null ? Verdict.Drop("the solution defines no function")
            : Verdict.Keep;
    }
}
