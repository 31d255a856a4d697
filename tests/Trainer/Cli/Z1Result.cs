using System.Text.Json;
using Xunit;

namespace Z1Coder.Tests.Trainer.Cli;

/// <summary>How a z1 process ended.</summary>
internal sealed record Z1Result(int ExitCode, string Output, string Error)
{
    /// <summary>Exit code 0 and nothing on standard error.</summary>
    public Z1Result Succeeded()
    {
        Assert.True(ExitCode == 0 && Error.Length == 0, $"exit code {ExitCode}\n{Error}{Output}");
        return this;
    }

    /// <summary>Exit code 1 and one sentence, never a stack trace, that holds every part.</summary>
    public Z1Result FailedWith(params string[] parts) => Refused(1, parts);

    /// <summary>Exit code 2 and the reason.</summary>
    public Z1Result WasMisused(params string[] parts) => Refused(2, parts);

    public JsonElement Json()
    {
        Succeeded();
        using var json = JsonDocument.Parse(Output);
        return json.RootElement.Clone();
    }

    private Z1Result Refused(int code, string[] parts)
    {
        Assert.True(ExitCode == code, $"exit code {ExitCode} instead of {code}\n{Error}{Output}");
        var lines = Error.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.All(lines, line => Assert.StartsWith("z1: ", line));
        Assert.True(code == 2 || lines.Length == 1, $"not one sentence:\n{Error}");
        Assert.DoesNotContain("   at ", Error);
        Assert.DoesNotContain("Exception", Error);
        Assert.All(parts, part => Assert.Contains(part, Error));
        return this;
    }
}
