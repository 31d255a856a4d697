using System.CommandLine;
using System.Globalization;
using Z1Coder.Perf;

namespace Z1Coder.Trainer.Cli;

/// <summary>z1 eval sandbox: what confinement costs on this machine.</summary>
internal static class EvalSandboxCommand
{
    public static Command Create()
    {
        var repeats = new Option<int>("--repeats") { Description = "programs of each way", DefaultValueFactory = _ => 40 };
        PlanCommand.Within(repeats, 1, 100_000);
        var command = new Command("sandbox", "Milliseconds per program: bare interpreter, confined alone, confined in a kept confinement; in turn.") { repeats };
        command.SetAction(async (parsed, cancellation) =>
        {
            var times = await SandboxBench.MeasureAsync(parsed.GetValue(repeats), cancellation);
            Console.WriteLine($"{"",-28} {"fastest",8} {"p20",8} {"p50",8} {"p80",8}   p50 beyond the interpreter's own");
            foreach (var (name, sorted) in new[] { ("bare interpreter", times.Bare), ("confinement of its own", times.Own), ("kept confinement", times.Kept) })
            {
                var (p20, p50, p80) = (SandboxTimes.Quantile(sorted, 0.2), SandboxTimes.Quantile(sorted, 0.5), SandboxTimes.Quantile(sorted, 0.8));
                Console.WriteLine($"{name,-28} {Ms(sorted[0])} {Ms(p20)} {Ms(p50)} {Ms(p80)}   {Ms(p50 - SandboxTimes.Quantile(times.Bare, 0.5))}");
            }

            return 0;
        });
        return command;
    }

    private static string Ms(double value) => value.ToString("F1", CultureInfo.InvariantCulture).PadLeft(8);
}
