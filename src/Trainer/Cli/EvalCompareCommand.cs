using System.CommandLine;
using System.Globalization;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Evaluate;

namespace Z1Coder.Trainer.Cli;

/// <summary>z1 eval compare A B</summary>
internal static class EvalCompareCommand
{
    private const string Suffix = ".results.jsonl";

    public static Command Create()
    {
        var a = new Argument<string>("A") { Description = "a results file, or a directory of z1 eval score --out" };
        var b = new Argument<string>("B") { Description = "the other" };
        var json = new Option<bool>("--json") { Description = "the comparison as JSON" };
        var command = new Command("compare", "Two runs over the same tasks: difference, McNemar's exact test, and the tasks that differ.") { a, b, json };
        command.SetAction(parsed =>
        {
            var pairs = Pairs(parsed.GetValue(a)!, parsed.GetValue(b)!)
                .Select(p => (p.Name, Comparison: PairedComparison.Of(TaskVerdicts.Read(p.A), TaskVerdicts.Read(p.B)))).ToList();
            if (parsed.GetValue(json))
            {
                Write(pairs);
            }
            else
            {
                pairs.ForEach(p => Print(p.Name, p.Comparison));
            }

            return 0;
        });
        return command;
    }

    private static List<(string Name, string A, string B)> Pairs(string a, string b)
    {
        if (!Directory.Exists(a) || !Directory.Exists(b))
        {
            return [("", a, b)];
        }

        var pairs = new DirectoryInfo(a).EnumerateFiles("*" + Suffix).Select(f => f.Name).Order(StringComparer.Ordinal)
            .Where(name => File.Exists(Path.Combine(b, name)))
            .Select(name => (name[..^Suffix.Length], Path.Combine(a, name), Path.Combine(b, name))).ToList();
        return pairs.Count > 0 ? pairs : throw new InvalidInputException($"{a} and {b} hold no results of one benchmark (NAME{Suffix}).");
    }

    private static void Print(string name, PairedComparison c)
    {
        var title = name.Length > 0 ? name + ": " : "";
        Console.WriteLine(
            $"{title}A {Percent(c.A)} %, B {Percent(c.B)} %, B - A {Percent(c.B - c.A)} points [{Percent(c.Interval.Low)}, {Percent(c.Interval.High)}] on {c.Tasks} tasks");
        Console.WriteLine($"only A {c.OnlyA}, only B {c.OnlyB}, McNemar exact p = {c.P.ToString("G3", CultureInfo.InvariantCulture)}");
        if (c.Unpaired.Count > 0)
        {
            Console.WriteLine($"{c.Unpaired.Count} tasks are in one run alone and do not count");
        }

        foreach (var d in c.Differences)
        {
            Console.WriteLine($"  {(d.B > d.A ? "+" : "-")} {d.TaskId}: {d.OutcomeA} -> {d.OutcomeB}{(d.A is 0 or 1 && d.B is 0 or 1 ? "" : $" ({Percent(d.A)} % -> {Percent(d.B)} %)")}");
        }
    }

    private static void Write(List<(string Name, PairedComparison Comparison)> pairs) => CliJson.Write(json =>
    {
        json.WriteStartArray("comparisons");
        foreach (var (name, c) in pairs)
        {
            json.WriteStartObject();
            json.WriteString("benchmark", name);
            json.WriteNumber("tasks", c.Tasks);
            json.WriteNumber("a", c.A);
            json.WriteNumber("b", c.B);
            json.WriteNumber("low", c.Interval.Low);
            json.WriteNumber("high", c.Interval.High);
            json.WriteNumber("only_a", c.OnlyA);
            json.WriteNumber("only_b", c.OnlyB);
            json.WriteNumber("p", c.P);
            json.WriteNumber("unpaired", c.Unpaired.Count);
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
    });

    private static string Percent(double fraction) => (100 * fraction).ToString("F1", CultureInfo.InvariantCulture);
}
