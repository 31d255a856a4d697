using System.Globalization;

namespace Z1Coder.Trainer.Cli;

/// <summary>The first rank that failed.</summary>
/// <param name="Rank">which</param>
/// <param name="Code">its exit code; 128 + the signal that ended it</param>
/// <param name="Seconds">how long it had run</param>
internal sealed record LaunchExit(int Rank, int Code, double Seconds)
{
    private const int SignalBase = 128;

    private static readonly Dictionary<int, string> s_signals = new()
    {
        [1] = "SIGHUP", [2] = "SIGINT", [4] = "SIGILL", [6] = "SIGABRT", [7] = "SIGBUS", [8] = "SIGFPE",
        [9] = "SIGKILL", [11] = "SIGSEGV", [15] = "SIGTERM",
    };

    /// <summary>Bad usage: every rank has said what is wrong, and would say it again.</summary>
    public bool IsMisuse => Code == 2;

    /// <summary>Ended by a signal: what others then say follows from it.</summary>
    public bool IsSignal => Code > SignalBase;

    public string Sentence
    {
        get
        {
            var signal = Code - SignalBase;
            var name = s_signals.GetValueOrDefault(signal, $"signal {signal}");
            var how = IsSignal ? $"was ended by {name}" : $"ended with exit code {Code}";
            return string.Create(CultureInfo.InvariantCulture, $"rank {Rank} {how} after {Seconds:F1} s");
        }
    }
}
