using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>
/// What tasks need that is not here: Python modules, found by the sandbox's own interpreter from the syntax of their code or by the error that ended a
/// program, and the network.
/// </summary>
internal static partial class PackageProbe
{
    private const string MissingModule = "No module named '";

    private const string Program = """
        import ast, json, sys
        from importlib.util import find_spec
        known = {}
        def there(name):
            if name not in known:
                try:
                    known[name] = find_spec(name) is not None
                except (ImportError, ValueError):
                    known[name] = name in sys.modules
            return known[name]
        def imported(text):
            try:
                tree = ast.parse(text)
            except (SyntaxError, ValueError, RecursionError):
                return
            for node in ast.walk(tree):
                if isinstance(node, ast.Import):
                    yield from (a.name.split(".")[0] for a in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    yield node.module.split(".")[0]
        print(json.dumps([sorted({m for text in texts for m in imported(text) if not there(m)}) for texts in json.load(sys.stdin)]))
        """;

    /// <summary>Per task, in their order: the missing modules.</summary>
    internal static async Task<List<List<string>>> MissingAsync(Sandbox sandbox, IReadOnlyList<BenchmarkTask> tasks, CancellationToken cancellation)
    {
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartArray();
            foreach (var task in tasks)
            {
                json.WriteStartArray();
                json.WriteStringValue(task.Reference ?? "");
                json.WriteStringValue(task.Calibration);

                // The tests of a task with an oracle are ours, and long.
                json.WriteStringValue(task.Oracle is null ? task.TestCode : "");
                json.WriteEndArray();
            }

            json.WriteEndArray();
        }

        var program = new SandboxProgram(Program) { Stdin = Encoding.UTF8.GetString(buffer.ToArray()) };
        var limits = new SandboxLimits { WallSeconds = 120, CpuSeconds = 120, OutputKeptBytes = 8 << 20 };
        var result = await sandbox.RunAsync(program, limits, cancellation);
        if (result.Outcome != SandboxOutcome.Passed)
        {
            throw new SandboxException($"The look for installed packages ended with {result.Outcome}: {result.Stderr.Trim()}");
        }

        using var found = JsonDocument.Parse(result.Stdout);
        return [.. found.RootElement.EnumerateArray().Select(t => t.EnumerateArray().Select(m => m.GetString()!).ToList())];
    }

    /// <summary>
    /// The module whose absence ended a reference solution, or "the network" where it fails, names an address of the Web, and imports a module
    /// that could go there; null when it fails for its own sake.
    /// </summary>
    internal static string? MissingIn(BenchmarkTask task, SandboxResult result)
    {
        if (result.Outcome == SandboxOutcome.Passed || MissingIn(result) is not null)
        {
            return MissingIn(result);
        }

        var text = task.Reference + task.Tests;
        return WebAddress().IsMatch(text) && NetworkModule().IsMatch(text) ? "the network" : null;
    }

    /// <summary>The module whose absence ended a program; null when something else did.</summary>
    internal static string? MissingIn(SandboxResult result)
    {
        if (result.Outcome != SandboxOutcome.Failed)
        {
            return null;
        }

        var last = result.Stderr.TrimEnd().Split('\n')[^1];
        var at = last.IndexOf(MissingModule, StringComparison.Ordinal);
        var end = at < 0 ? -1 : last.IndexOf('\'', at + MissingModule.Length);
        return last.StartsWith("ModuleNotFoundError", StringComparison.Ordinal) && end > 0 ? last[(at + MissingModule.Length)..end] : null;
    }

    [GeneratedRegex(@"\b(https?|ftp)://(?!localhost|127\.)", RegexOptions.CultureInvariant)]
    private static partial Regex WebAddress();

    [GeneratedRegex(@"^\s*(import|from)\s+(requests|urllib|urllib3|http|ftplib|socket|smtplib)\b", RegexOptions.CultureInvariant | RegexOptions.Multiline)]
    private static partial Regex NetworkModule();
}
