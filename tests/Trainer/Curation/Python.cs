using System.Diagnostics;
using System.Text.Json;
using Xunit;

namespace Z1Coder.Tests.Trainer.Curation;

/// <summary>One python3 process that runs programs of our own making; skips the test where there is no python3.</summary>
internal static class Python
{
    private const string Driver =
        """
        import json, sys
        for line in sys.stdin:
            case = json.loads(line)
            names = {}
            try:
                exec(case["program"], names)
                exec(case["test"], names)
                names["check"](names[case["entry"]])
                print("pass", flush=True)
            except Exception as e:
                print("fail", type(e).__name__, flush=True)
        """;

    /// <summary>For each case "pass", or "fail" with the name of the exception.</summary>
    public static List<string> Run(IEnumerable<(string Program, string Test, string Entry)> cases)
    {
        var script = Path.Combine(Path.GetTempPath(), $"z1-nano-{Guid.NewGuid():N}.py");
        File.WriteAllText(script, Driver);
        try
        {
            using var process = Start(script);
            var answers = process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
            foreach (var (program, test, entry) in cases)
            {
                var line = new Dictionary<string, string> { ["program"] = program, ["test"] = test, ["entry"] = entry };
                process.StandardInput.WriteLine(JsonSerializer.Serialize(line));
            }

            process.StandardInput.Close();
            process.WaitForExit();
            Assert.Equal(0, process.ExitCode);
            return [.. answers.GetAwaiter().GetResult().Split('\n', StringSplitOptions.RemoveEmptyEntries)];
        }
        finally
        {
            File.Delete(script);
        }
    }

    private static Process Start(string script)
    {
        try
        {
            var start = new ProcessStartInfo("python3", [script]) { RedirectStandardInput = true, RedirectStandardOutput = true };
            return Process.Start(start)!;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            Assert.Skip("python3 is not on the path");
            throw;
        }
    }
}
