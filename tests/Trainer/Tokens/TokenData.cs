using System.Text.Json;
using Xunit;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Tests.Trainer.Tokens;

/// <summary>The shared reference files: env Z1_DATA, or ../shared/data beside the repository. Tests skip where they are absent.</summary>
internal static class TokenData
{
    private static readonly Lazy<Tokenizer> s_qwen2 = new(() => Tokenizer.Load(Path.Combine(Folder("qwen-tokenizer"), "tokenizer.json")));
    private static readonly Lazy<Tokenizer> s_qwen3 = new(() => Tokenizer.Load(Path.Combine(Folder("qwen-tokenizer"), "qwen3")));

    public static Tokenizer Qwen2 => s_qwen2.Value;

    public static Tokenizer Qwen3 => s_qwen3.Value;

    public static string Folder(string name)
    {
        var root = Environment.GetEnvironmentVariable("Z1_DATA") ?? Path.Combine(Repository(), "..", "shared", "data");
        var folder = Path.Combine(root, name);
        if (!Directory.Exists(folder))
        {
            Assert.Skip($"no shared data folder '{name}': set Z1_DATA");
        }

        return folder;
    }

    public static string Repository()
    {
        var at = new DirectoryInfo(AppContext.BaseDirectory);
        while (at is not null && !File.Exists(Path.Combine(at.FullName, "Z1Coder.Native.sln")))
        {
            at = at.Parent;
        }

        return at?.FullName ?? throw new InvalidOperationException("the tests do not lie inside the repository");
    }

    public static IEnumerable<JsonElement> Lines(string file) =>
        File.ReadLines(Path.Combine(Folder("qwen-tokenizer"), file)).Where(l => l.Length > 0).Select(l => JsonElement.Parse(l));

    public static int[] Ints(JsonElement list) => list.EnumerateArray().Select(e => e.GetInt32()).ToArray();
}
