using System.IO.Compression;
using System.Text;
using System.Text.Json;
using Xunit;
using Z1Coder.Tests.Trainer.Cli;
using Z1Coder.Trainer.Curation.Filters;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Tests.Trainer.Curation;

/// <summary>What a filter takes out, and that it leaves the rest as it was.</summary>
public sealed class FilterTests : IDisposable
{
    private const string Code = "Think.\n```python\ndef f():\n    return 1\n```\n";

    private readonly string _folder = Directory.CreateTempSubdirectory("z1-filter-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void Each_reason_takes_out_its_record_and_the_rest_is_copied_byte_for_byte()
    {
        var kept = new[]
        {
            Line("a", "Write a function that adds two numbers and returns the sum of them.", Code),
            "{\"response\" : \"```\\nimport os\\n```\", \"id\":\"b\", \"question\":\"q\\u00e9 about files\",  \"extra\":[1, 2]}",
            Line("c", "Another question altogether, about graphs and their shortest paths.", $"<think>\nhm ```</think>\n{Code}",
                "\"finish_reason\":\"stop\""),
        };
        var gone = new (string Reason, string Line)[]
        {
            ("exact duplicate", kept[0].Replace("\"a\"", "\"a2\"")),
            ("near duplicate", Line("n", "Write a function that adds two numbers and returns the sum of them!!", Code + "other")),
            ("empty prompt", Line("e", " ", Code)),
            ("empty response", Line("e2", "q1", "")),
            ("unfinished answer", Line("u", "q2", Code, "\"finish_reason\":\"length\"")),
            ("unfinished answer", Line("u2", "q3", Code + "\n```python\ndef g(")),
            ("unfinished answer", Line("u3", "q4", "<think>\nnever ends" + Code)),
            ("no code block", Line("k", "q5", "just words")),
            ("no Python code block", Line("p", "q6", "```java\nclass A {}\n```")),
            ("no Python code block", Line("p2", "q7", "```\nSELECT 1\n```")),
            ("answer too long", Line("l", "q8", Code + new string('x', 3000))),
            ("broken line", "{\"id\": 3"),
        };
        File.WriteAllLines(this["in.jsonl"], [kept[0], .. gone.Select(g => g.Line), kept[1], kept[2]]);
        var json = Z1Here.Run("curate", "filter", this["in.jsonl"], "--out", this["out.jsonl"], "--max-chars", "2000", "--skip-broken",
            "--json").Json();
        Assert.Equal(kept, File.ReadAllLines(this["out.jsonl"]));
        Assert.Equal((15, 3, 12), (Number(json, "records"), Number(json, "kept"), Number(json, "taken_out")));
        Assert.Equal(gone.GroupBy(g => g.Reason).ToDictionary(g => g.Key, g => (long)g.Count()), Reasons(json));
        using var report = JsonDocument.Parse(File.ReadAllText(this["out.report.json"]));
        Assert.Equal(Reasons(json), Reasons(report.RootElement));
        Assert.Contains("n: resembles a", report.RootElement.ToString());
        var text = Z1Here.Run("curate", "filter", this["in.jsonl"], "--out", this["out.jsonl"], "--skip-broken", "--language", "none",
            "--near", "0", "--keep-unfinished").Succeeded().Output;
        Assert.Contains("15 records: 11 kept, 4 taken out", text);
        Assert.Contains("1 exact duplicate, for example a2", text);
        Assert.Empty(Directory.GetFiles(_folder, "*.tmp"));
    }

    [Fact]
    public void An_array_becomes_lines_and_end_tokens_are_asked_for()
    {
        File.WriteAllText(this["in.json"],
            $"[\n {{\n \"question\": \"one é\",\n \"response\": {JsonSerializer.Serialize(Code + "<END>")}\n }},\n {Line("x", "two", Code)} ]");
        Z1Here.Run("curate", "filter", this["in.json"], "--out", this["out.jsonl"], "--end-token", "<END>").Succeeded();
        var line = Assert.Single(File.ReadAllLines(this["out.jsonl"]));
        using var json = JsonDocument.Parse(line);
        Assert.Equal(Code + "<END>", json.RootElement.GetProperty("response").GetString());
        Assert.Contains("one é", line);
    }

    [Fact]
    public void Bad_usage_and_bad_input()
    {
        File.WriteAllText(this["in.jsonl"], "{\"question\": 1, \"response\": \"x\"}\n");
        File.WriteAllText(this["out.jsonl"], "keep me");
        Z1Here.Run("curate", "filter", this["in.jsonl"], "--out", this["out.jsonl"]).FailedWith("in.jsonl line 1", "'question' is a number");
        Assert.Equal("keep me", File.ReadAllText(this["out.jsonl"]));
        Z1Here.Run("curate", "filter", this["none.jsonl"], "--out", this["out.jsonl"]).FailedWith("none.jsonl");
        Z1Here.Run("curate", "filter", this["in.jsonl"]).WasMisused("--out");
        Z1Here.Run("curate", "filter", this["in.jsonl"], "--out", "x", "--near", "0.3").WasMisused("--near 0.3");
        Z1Here.Run("curate", "filter", this["in.jsonl"], "--out", "x", "--max-tokens", "5").WasMisused("--tokenizer");
        Z1Here.Run("curate", "decontaminate", this["in.jsonl"], "--out", "x").WasMisused("--benchmark");
        Z1Here.Run("curate", "decontaminate", this["in.jsonl"], "--out", this["o.jsonl"], "--benchmark", this["none"])
            .FailedWith("none", "cannot be read");
        File.WriteAllText(this["b.jsonl"], "{\"task_id\": \"T/0\", \"nothing\": \"x\"}\n");
        Z1Here.Run("curate", "decontaminate", this["in.jsonl"], "--out", this["o.jsonl"], "--benchmark", this["b.jsonl"])
            .FailedWith("b.jsonl", "no task has a text field of a known name (prompt, text, question, question_content and 15 more)", "the first has task_id, nothing:");
        Z1Here.Run("curate", "decontaminate", this["in.jsonl"], "--out", this["o.jsonl"], "--benchmark", this["b.jsonl"],
            "--benchmark-fields", "prompt")
            .FailedWith("task 1 (T/0) has no text field 'prompt'");
        File.WriteAllText(this["b.jsonl"], "{\"prompt\": \"a b c d e f\"}\n{\"prompt\": ");
        Z1Here.Run("curate", "decontaminate", this["in.jsonl"], "--out", this["o.jsonl"], "--benchmark", this["b.jsonl"])
            .FailedWith("b.jsonl:2");
        File.WriteAllText(this["b.jsonl"], "{\"prompt\": \"too short\"}\n");
        Z1Here.Run("curate", "decontaminate", this["in.jsonl"], "--out", this["o.jsonl"], "--benchmark", this["b.jsonl"])
            .FailedWith("b.jsonl: no text of a task has 5 words or more");
        File.WriteAllText(this["b.jsonl"], "{\"prompt\": \"\\ud800\"}\n");
        Z1Here.Run("curate", "decontaminate", this["in.jsonl"], "--out", this["o.jsonl"], "--benchmark", this["b.jsonl"])
            .FailedWith("b.jsonl:1", "\"prompt\" is not valid Unicode");
        var help = Z1Here.Run("curate", "filter", "--help").Succeeded().Output;
        Assert.DoesNotContain("2147483647", help);
        Assert.Contains("no limit without it", help);
        Assert.Contains("no run of words", Z1Here.Run("curate", "decontaminate", "--help").Succeeded().Output);
    }

    [Fact]
    public void Overlap_is_found_whatever_the_layout_and_not_where_there_is_none()
    {
        const string Task =
            "def median(xs):\n    \"\"\" Return the median of a list of numbers, the mean of the middle two if it is even. \"\"\"";
        File.WriteAllText(this["b.jsonl"],
            JsonSerializer.Serialize(new { task_id = "HumanEval/7", prompt = Task, canonical_solution = "    s = sorted(xs)\n" }));
        File.WriteAllText(this["d.json"], """{"BigCodeBench/3": {"complete_prompt": "count the vowels of a word quickly"}, "BigCodeBench/4": {"instruct_prompt": "x"}}""");
        using (var gzip = new GZipStream(File.Create(this["e.json.gz"]), CompressionMode.Compress))
        {
            gzip.Write("[{\"id\": 5, \"question_content\": \"one two three four five six seven eight nine ten eleven twelve\"}]"u8);
        }

        string[] lines =
        [
            Line("layout", "Please RETURN the median - of a list\nof numbers (the mean of the middle", "x"),
            Line("answer", "q", "```python\n# return the median of a list of numbers, the mean of the middle two\n```"),
            Line("short whole", "Write code to COUNT the vowels of a word, quickly.", "x"),
            Line("nine words", "return the median of a list of numbers the", "x"),
            Line("part of short", "count the vowels of a word", "x"),
            Line("gzip", "two three four five six seven eight nine ten eleven", "x"),
            Line("clean", "Reverse a linked list in place and return its head, please, without recursion.", "x"),
        ];
        File.WriteAllLines(this["in.jsonl"], lines);
        var json = Z1Here.Run("curate", "decontaminate", this["in.jsonl"], "--out", this["out.jsonl"], "--benchmark", this["b.jsonl"],
            this["d.json"], this["e.json.gz"], "--json").Json();
        Assert.Equal([lines[3], lines[4], lines[6]], File.ReadAllLines(this["out.jsonl"]));
        Assert.Equal((4, 2), (Number(json, "benchmark_tasks"), Number(json, "task_texts_too_short_to_tell")));
        var examples = json.GetProperty("reasons")[0].GetProperty("examples").EnumerateArray().Select(e => e.GetString()!).ToList();
        Assert.Contains("HumanEval/7 (prompt)", examples[0]);
        Assert.Contains("RETURN the median - of a list of numbers (the mean", examples[0]);
        Assert.Contains("BigCodeBench/3", examples[2]);
        Assert.Contains("e.json/5", examples[3]);
    }

    [Fact]
    public void Words_that_many_tasks_share_can_be_forgotten()
    {
        const string Boilerplate = "the first line contains a single integer t the number of test cases";
        File.WriteAllLines(this["b.jsonl"],
            Enumerable.Range(0, 5)
            .Select(i => JsonSerializer.Serialize(
            new { prompt = $"{Boilerplate} own{i} words{i} of{i} task{i} number{i} a{i} b{i} c{i} d{i} e{i}" })));
        var index = new BenchmarkIndex();
        index.Add(this["b.jsonl"]);
        Assert.NotNull(index.Find(Boilerplate));
        Assert.Equal(4, index.ForgetCommon(5));            // 13 words have 4 runs of 10
        Assert.Null(index.Find(Boilerplate));
        Assert.NotNull(index.Find("own3 words3 of3 task3 number3 a3 b3 c3 d3 e3"));
        Assert.Equal(0, index.ForgetCommon(5));
    }

    [Fact]
    public void Every_real_benchmark_task_is_found_in_data_that_hold_it()
    {
        var data = Goldens.RequireData("benchmarks", "HumanEval.jsonl");
        var tasks = File.ReadLines(data).Select(l => JsonDocument.Parse(l).RootElement).ToList();
        var index = new BenchmarkIndex();
        index.Add(data);
        Assert.Equal(tasks.Count, index.Tasks);
        foreach (var task in tasks)
        {
            var prompt = task.GetProperty("prompt").GetString()!;
            Assert.NotNull(index.Find("Complete this:\n" + prompt.Replace("    ", "\t").ToUpperInvariant()));
            Assert.Equal(task.GetProperty("task_id").GetString(),
                index.Find(prompt[prompt.IndexOf("def ", StringComparison.Ordinal)..])!.Task);
        }
    }

    [Fact]
    public void Every_real_benchmark_file_is_indexed_and_infinity_is_read()
    {
        File.WriteAllText(this["plus.jsonl"],
            "{\"task_id\": \"Mbpp/9\", \"prompt\": \"one two three four five six\", \"base_input\": [[Infinity, -Infinity]]}\n");
        var own = new BenchmarkIndex();
        own.Add(this["plus.jsonl"]);
        Assert.Equal("Mbpp/9", own.Find("One two, three four five six!")!.Task);
        var folder = Path.GetDirectoryName(Goldens.RequireData("benchmarks", "HumanEval.jsonl"))!;
        foreach (var benchmark in Z1Coder.Trainer.Evaluate.Benchmark.All)
        {
            var index = new BenchmarkIndex();
            foreach (var file in benchmark.Find(new DirectoryInfo(folder)) ?? [])
            {
                if (!file.Contains("Inputs", StringComparison.Ordinal))         // no text in it
                {
                    index.Add(file);
                }
            }

            Assert.True(benchmark.Name.StartsWith("bigcodebench-", StringComparison.Ordinal) || index.Tasks > 0, benchmark.Name);
        }
    }

    [Fact]
    public void MinHash_estimates_the_similarity_of_sets_of_runs()
    {
        var random = new Random(3);
        for (var round = 0; round < 60; round++)
        {
            var shared = random.Next(0, 400);
            var (a, b) = (Words(shared, 400 - shared, "a"), Words(shared, 400 - shared, "b"));
            var exact = Jaccard(a, b);
            var estimate = MinHash.Similarity(MinHash.Of(a), MinHash.Of(b));

            // the estimate is a binomial share of 128 trials; 4.5 standard deviations are passed once in 150,000 rounds
            var bound = 4.5 * Math.Sqrt(Math.Max(exact * (1 - exact), 1.0 / 128) / 128);
            Assert.True(Math.Abs(estimate - exact) <= bound, $"{estimate} for {exact}, bound {bound}");
        }

        Assert.Equal(1, MinHash.Similarity(MinHash.Of("One, two."), MinHash.Of("one two")));
        Assert.NotEqual(1, MinHash.Similarity(MinHash.Of("one two"), MinHash.Of("one three")));
        Assert.Equal(1, MinHash.Similarity(MinHash.Of(""), MinHash.Of("?!")));

        static string Words(int shared, int own, string mark)
        {
            var text = new StringBuilder();
            for (var i = 0; i < shared; i++)
            {
                text.Append($"s{i} ");
            }

            for (var i = 0; i < own; i++)
            {
                text.Append($"{mark}{i} ");
            }

            return text.ToString();
        }
    }

    [Fact]
    public void Near_duplicates_are_found_among_thousands_and_different_texts_are_not_taken_for_them()
    {
        using var near = new NearDuplicates(_folder, 0.7);
        var random = new Random(5);
        var texts = Enumerable.Range(0, 2000).Select(_ => Enumerable.Range(0, 60).Select(_ => $"w{random.Next(3000)}").ToArray()).ToList();
        for (var i = 0; i < texts.Count; i++)
        {
            Assert.Equal(-1, near.Add(string.Join(' ', texts[i])));
        }

        var missed = 0;
        for (var i = 0; i < texts.Count; i += 10)
        {
            var changed = (string[])texts[i].Clone();
            changed[^1] = "other";                              // one word at the end: 55 of 57 runs are shared
            var found = near.Add(string.Join(", ", changed));
            Assert.True(found == i || found == -1);
            missed += found == i ? 0 : 1;
        }

        Assert.Equal(0, missed);
    }

    private static double Jaccard(string a, string b)
    {
        static HashSet<string> Runs(string text)
        {
            var words = text.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            return [.. Enumerable.Range(0, words.Length - 4).Select(i => string.Join(' ', words.Skip(i).Take(5)))];
        }

        var (x, y) = (Runs(a), Runs(b));
        return (double)x.Intersect(y).Count() / x.Union(y).Count();
    }

    private string this[string name] => Path.Combine(_folder, name);

    private static long Number(JsonElement json, string name) => json.GetProperty(name).GetInt64();

    private static Dictionary<string, long> Reasons(JsonElement json) =>
        json.GetProperty("reasons").EnumerateArray()
            .ToDictionary(r => r.GetProperty("reason").GetString()!, r => r.GetProperty("count").GetInt64());

    private static string Line(string id, string question, string response, string more = "") =>
        $"{{\"id\":{JsonSerializer.Serialize(id)},\"question\":{JsonSerializer.Serialize(question)},\"response\":{JsonSerializer.Serialize(response)}{(more.Length > 0 ? "," + more : "")}}}";
}
