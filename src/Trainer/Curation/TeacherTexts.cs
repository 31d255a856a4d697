using Z1Coder.Trainer.Curation.Filters;

namespace Z1Coder.Trainer.Curation;

/// <summary>What is wrong with texts that teachers write, seen by their form.</summary>
internal static class TeacherTexts
{
    private static readonly string[] s_refusals = ["i'm sorry", "i am sorry", "sorry, but", "as an ai", "i cannot", "i can't"];
    private static readonly string[] s_leaks =
    [
        "given prompt", "rewritten prompt", "rewritten problem", "new prompt", "created prompt", "original problem", "the problem above",
        "inspired by",
    ];
    private static readonly string[] s_seeds =
    [
        "the snippet", "code snippet", "the given code", "given function", "the code above", "code below", "above code",
        "the following code", "the provided code", "provided function",
        "the original function", "open-source project",
    ];

    public static int Words(string text) => text.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries).Length;

    public static bool IsRefusal(string text) =>
        s_refusals.Any(r => text.AsSpan().TrimStart().StartsWith(r, StringComparison.OrdinalIgnoreCase));

    /// <summary>Speaks of the prompt that it came from.</summary>
    public static bool LeaksPrompt(string text) => s_leaks.Any(l => text.Contains(l, StringComparison.OrdinalIgnoreCase));

    /// <summary>Speaks of code that its reader has never seen.</summary>
    public static bool NamesSeed(string text) => s_seeds.Any(l => text.Contains(l, StringComparison.OrdinalIgnoreCase));

    /// <summary>Jaccard similarity of the runs of five words, estimated.</summary>
    public static double Similarity(string a, string b) => MinHash.Similarity(MinHash.Of(a), MinHash.Of(b));
}
