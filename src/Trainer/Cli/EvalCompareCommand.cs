using System.CommandLine;
using System.Globalization;
using Z1Coder.Trainer.Evaluate;
using Z1Coder.Trainer.Report;

namespace Z1Coder.Trainer.Cli;

/// <summary>z1 eval compare A B</summary>
internal static class EvalCompareCommand
{
    public static Command Create()
    {
        var a = new Argument<string>("A") { Description = "a results file, or a directory of z1 eval --out or z1 eval score --out" };
        var b = new Argument<string>("B") { Description = "the other" };
        var html = new Option<string?>("--html") { Description = "the comparison as one page: answers side by side where the runs differ" };
        var json = new Option<bool>("--json") { Description = "the comparison as JSON" };
        var command = new Command("compare", "Two runs over the same tasks: difference, McNemar's exact test, and the tasks that differ.") { a, b, html, json };
        command.SetAction(parsed =>
        {
            var (first, second) = (parsed.GetValue(a)!, parsed.GetValue(b)!);
            var benchmarks = BenchmarkComparison.Read(first, second, out var alone);
            if (parsed.GetValue(html) is { } page)
            {
                File.WriteAllText(page, ComparisonReport.Render(first, second, benchmarks, alone));
            }

            if (parsed.GetValue(json))
            {
                Write(benchmarks, alone);
                return 0;
            }

            foreach (var benchmark in benchmarks)
            {
                Print(benchmark.Benchmark, benchmark.Comparison);
            }

            foreach (var (benchmark, run) in alone)
            {
                Console.WriteLine($"{benchmark} is in {run} alone and is not compared");
            }

            return 0;
        });
        return command;
    }

    private static void Print(string name, PairedComparison c)
    {
        var title = name.Length > 0 ? name + ": " : "";
        Console.WriteLine(
            $"{title}A {Percent(c.A)} %, B {Percent(c.B)} %, B - A {Percent(c.B - c.A)} points [{Percent(c.Interval.Low)}, {Percent(c.Interval.High)}] on {c.Tasks} tasks");
        Console.WriteLine($"both {c.Both}, only A {c.OnlyA}, only B {c.OnlyB}, neither {c.Neither}, "
            + $"McNemar exact p = {c.P.ToString("G3", CultureInfo.InvariantCulture)}");
        if (c.Unpaired.Count > 0)
        {
            Console.WriteLine($"{c.Unpaired.Count} tasks are in one run alone and do not count");
        }

        foreach (var d in c.Differences)
        {
            Console.WriteLine($"  {(d.B > d.A ? "+" : "-")} {d.TaskId}: {d.OutcomeA} -> {d.OutcomeB}{(d.A is 0 or 1 && d.B is 0 or 1 ? "" : $" ({Percent(d.A)} % -> {Percent(d.B)} %)")}");
        }
    }

    private static void Write(IReadOnlyList<BenchmarkComparison> benchmarks, IReadOnlyList<(string Benchmark, string Run)> alone) =>
        CliJson.Write(json =>
    {
        json.WriteStartArray("comparisons");
        foreach (var benchmark in benchmarks)
        {
            var c = benchmark.Comparison;
            json.WriteStartObject();
            json.WriteString("benchmark", benchmark.Benchmark);
            json.WriteNumber("tasks", c.Tasks);
            json.WriteNumber("a", c.A);
            json.WriteNumber("b", c.B);
            json.WriteNumber("low", c.Interval.Low);
            json.WriteNumber("high", c.Interval.High);
            json.WriteNumber("both", c.Both);
            json.WriteNumber("only_a", c.OnlyA);
            json.WriteNumber("only_b", c.OnlyB);
            json.WriteNumber("neither", c.Neither);
            json.WriteNumber("p", c.P);
            json.WriteNumber("unpaired", c.Unpaired.Count);
            json.WriteStartArray("unpaired_tasks");
            foreach (var task in c.Unpaired)
            {
                json.WriteStringValue(task);
            }

            json.WriteEndArray();
            json.WriteStartArray("differences");
            foreach (var d in c.Differences)
            {
                json.WriteStartObject();
                json.WriteString("task_id", d.TaskId);
                json.WriteNumber("a", d.A);
                json.WriteNumber("b", d.B);
                json.WriteString("outcome_a", d.OutcomeA);
                json.WriteString("outcome_b", d.OutcomeB);
                json.WriteEndObject();
            }

            json.WriteEndArray();
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteStartArray("alone");
        foreach (var (name, run) in alone)
        {
            json.WriteStartObject();
            json.WriteString("benchmark", name);
            json.WriteString("run", run);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    });

    private static string Percent(double fraction) => (100 * fraction).ToString("F1", CultureInfo.InvariantCulture);
}
