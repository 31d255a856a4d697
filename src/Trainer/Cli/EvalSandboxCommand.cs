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
        var json = new Option<bool>("--json") { Description = "the times as JSON" };
        PlanCommand.Within(repeats, 1, 100_000);
        var command = new Command("sandbox", "Milliseconds per program: bare interpreter, confined alone, confined in a kept confinement; in turn.") { repeats, json };
        command.SetAction(async (parsed, cancellation) =>
        {
            SandboxTimes times;
            try
            {
                times = await SandboxBench.MeasureAsync(parsed.GetValue(repeats), cancellation);
            }
            catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
            {
                return Cli.Fail("stopped; nothing was measured to the end");
            }

            (string Name, string Key, IReadOnlyList<double> Sorted)[] ways =
            [
                ("bare interpreter", "bare", times.Bare), ("confinement of its own", "own", times.Own), ("kept confinement", "kept", times.Kept),
            ];
            if (parsed.GetValue(json))
            {
                CliJson.Write(writer =>
                {
                    foreach (var (_, key, sorted) in ways)
                    {
                        writer.WriteStartObject(key);
                        writer.WriteNumber("fastest_ms", sorted[0]);
                        writer.WriteNumber("p20_ms", SandboxTimes.Quantile(sorted, 0.2));
                        writer.WriteNumber("p50_ms", SandboxTimes.Quantile(sorted, 0.5));
                        writer.WriteNumber("p80_ms", SandboxTimes.Quantile(sorted, 0.8));
                        writer.WriteEndObject();
                    }
                });
                return 0;
            }

            Console.WriteLine($"{"",-28} {"fastest",8} {"p20",8} {"p50",8} {"p80",8}   p50 beyond the interpreter's own");
            foreach (var (name, _, sorted) in ways)
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
