using Xunit;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Evaluate;

namespace Z1Coder.Tests.Trainer.Evaluate;

/// <summary>Every benchmark: its files as published, its prompts, its rules, graded.</summary>
[Collection("sandbox")]
public sealed class BenchmarkTests
{
    private static readonly Lazy<(Sandbox? Sandbox, string Message)> s_found = new(() =>
    {
        try
        {
            return (Sandbox.Create(sitePackages: true, reuse: true), "");
        }
        catch (SandboxException e)
        {
            return (null, e.Message);
        }
    });

    /// <summary>Benchmark, tiny or real data, tasks, references that pass, tasks that need packages which are nowhere installed.</summary>
    public static TheoryData<string, int> Tiny => new()
    {
        { "humaneval", 2 }, { "humaneval+", 3 }, { "mbpp", 2 }, { "mbpp+", 5 }, { "humaneval-pro", 1 }, { "mbpp-pro", 1 }, { "bigcodebench-lite-pro", 1 },
        { "bigcodebench-hard-complete", 1 }, { "bigcodebench-hard-instruct", 1 },
    };

    [Theory, MemberData(nameof(Tiny))]
    public async Task References_pass_and_missing_packages_are_no_failures(string name, int passing)
    {
        var benchmark = Benchmark.Find(name);
        var score = await References(benchmark, new DirectoryInfo(TinyBenchmarks.Folder()));
        Assert.True(score.Holds, string.Join("\n", score.Notes(9)));
        Assert.Equal(passing, score.Summary.Tasks.Count);
        Assert.Equal(1.0, score.Summary.PassAt1);
        Assert.All(score.Summary.NotRunnable, t => Assert.StartsWith("no_such_package_of_z1", t.Needs.Single(), StringComparison.Ordinal));
        Assert.Equal(name.StartsWith("bigcodebench-hard", StringComparison.Ordinal) ? 2 : name == "bigcodebench-lite-pro" ? 1 : 0, score.Summary.NotRunnable.Count);
    }

    // The developers' half of each benchmark; counts are of these files. What is not installed does not count as passed. Of the long ones every
    // n-th task is run here; z1 eval score --reference runs them all.
    [Theory]
    [InlineData("humaneval", 82, 2, true)]
    [InlineData("humaneval+", 82, 1, true)]
    [InlineData("mbpp", 487, 8, true)]
    [InlineData("mbpp+", 205, 4, true)]
    [InlineData("humaneval-pro", 82, 2, true)]
    [InlineData("mbpp-pro", 196, 4, true)]
    [InlineData("bigcodebench-lite-pro", 29, 2, false)]
    [InlineData("bigcodebench-hard-complete", 68, 6, false)]
    public async Task References_of_the_real_files_pass(string name, int tasks, int every, bool allRun)
    {
        var benchmark = Benchmark.Find(name);
        var folder = new DirectoryInfo(Path.GetDirectoryName(TestFiles.Benchmark("HumanEval.jsonl"))!);
        var files = benchmark.Find(folder);
        Assert.NotNull(files);
        var read = benchmark.Read(files);
        Assert.Equal(tasks, read.Count);
        NeedSandbox();
        var taken = read.Where((_, i) => i % every == 0).ToList();
        var score = await BenchmarkScore.OfAsync(benchmark, taken, null, Options(benchmark), TestContext.Current.CancellationToken);
        Assert.True(score.Holds, string.Join("\n", score.Notes(99)));
        Assert.Equal(taken.Count, score.Summary.Tasks.Count + score.Summary.NotRunnable.Count);
        Assert.True(!allRun || score.Summary.NotRunnable.Count == 0, $"{score.Summary.NotRunnable.Count} could not run");
    }

    [Fact]
    public async Task Sanitized_mbpp_as_published_passes_too()
    {
        NeedSandbox();
        var benchmark = Benchmark.Find("mbpp");
        var tasks = benchmark.Read([TestFiles.Benchmark("sanitized-mbpp.json")]);
        Assert.Equal(219, tasks.Count);
        Assert.All(tasks, t => Assert.Null(t.Kind));
        Assert.True((await BenchmarkScore.OfAsync(benchmark, tasks, null, Options(benchmark), TestContext.Current.CancellationToken)).Holds);
    }

    [Fact]
    public async Task The_pre_release_of_HumanEval_plus_is_joined_from_three_files_and_held_against_its_contracts()
    {
        var folder = new DirectoryInfo(TinyBenchmarks.Folder("HumanEval.jsonl", "HumanEvalPlus-prerelease.jsonl", "HumanEvalPlusInputs-prerelease.jsonl"));
        var benchmark = Benchmark.Find("humaneval+");
        var tasks = benchmark.Read(benchmark.Find(folder)!);
        Assert.Equal(["HumanEval/0", "HumanEval/32"], tasks.Select(t => t.TaskId));
        Assert.Equal([3, 2], tasks.Select(t => t.Inputs));

        // Wrong for -5, which the contract rejects, right elsewhere; and wrong for 7 alone.
        var passed1 = await Passed(
            benchmark, tasks, ("HumanEval/0", "    return abs(x) + 1\n"), ("HumanEval/0", "    return x + (x != 7)\n"), ("HumanEval/32", "    return -xs[0] / xs[1] + 1e-6\n"));
        Assert.Equal([true, false, true], passed1);
    }

    [Fact]
    public async Task EvalPlus_compares_by_value_tolerance_type_and_the_tasks_own_rules()
    {
        var plus = Benchmark.Find("humaneval+");
        var tasks = plus.Read([Path.Combine(TinyBenchmarks.Folder(), "HumanEvalPlus-v0.1.10.jsonl")]);
        var passed2 = await Passed(
                plus, tasks,
                ("HumanEval/0", "    return x + 1\n"), ("HumanEval/0", "    return x + 1 if x < 10 else 0\n"),          // a plus input alone is wrong
                ("HumanEval/0", "    return x + 1.0000001\n"),                                                          // integers have no tolerance
                ("HumanEval/32", "    return -xs[0] / xs[1] + 1e-5\n"), ("HumanEval/32", "    return -xs[0] / xs[1] + 1e-3\n"),
                ("HumanEval/2", "    return x / 2 + 5e-7\n"), ("HumanEval/2", "    return x / 2 + 2e-6\n"),
                ("HumanEval/2", "    return str(x / 2)\n"), ("HumanEval/2", "    import sys\n    sys.exit(0)\n"));
        Assert.Equal([true, false, false, true, false, true, false, false, false], passed2);
        var mbpp = Benchmark.Find("mbpp+");
        var more = mbpp.Read([Path.Combine(TinyBenchmarks.Folder(), "MbppPlus-v0.2.0.jsonl")]);
        var passed3 = await Passed(
                mbpp, more,
                ("Mbpp/2", "def similar_elements(a, b):\n  assert type(a) is tuple\n  return set(a) & set(b)\n"), ("Mbpp/2", "def similar_elements(a, b):\n  return a\n"),
                ("Mbpp/124", "def angle(a, b):\n  import cmath\n  return cmath.phase(a + b) + 1e-5\n"), ("Mbpp/124", "def angle(a, b):\n  return 1\n"),
                ("Mbpp/164", "def are_equivalent(a, b):\n  return True\n"),
                ("Mbpp/558", "def digit_distance_nums(a, b):\n  return sum(map(int, str(abs(a - b))))\n"),
                ("Mbpp/558", "def digit_distance_nums(a, b):\n  return 1\n"),
                ("Mbpp/794", "def text_starta_endb(t):\n  return t[0] == 'a'\n"),
                ("Mbpp/794", "def text_starta_endb(t):\n  return 'found' if t[0] == 'a' else None\n"), ("Mbpp/794", "def text_starta_endb(t):\n  return 'not found'\n"));
        Assert.Equal([true, false, true, false, true, true, false, true, true, false], passed3);
    }

    [Fact]
    public async Task An_input_that_hangs_is_a_time_out_though_others_are_quick()
    {
        NeedSandbox();
        var plus = Benchmark.Find("humaneval+");
        var tasks = plus.Read([Path.Combine(TinyBenchmarks.Folder(), "HumanEvalPlus-v0.1.10.jsonl")]);
        var score = await Score(plus, tasks, [new("HumanEval/0", "    while x > 5: pass\n    return x + 1\n", CompletionMode.Continuation)]);
        Assert.Equal(1, score.Summary.Outcomes[SandboxOutcome.TimedOut]);
        Assert.Equal(1, score.Summary.RunAgainAlone);
    }

    [Fact]
    public async Task The_floor_of_the_options_is_the_least_limit_of_one_input_whatever_an_answer_makes_of_it()
    {
        NeedSandbox();
        const string sleeps = "import time\n", swallows = "import time\ndef nap(seconds):\n    try:\n        time.sleep(seconds)\n    except BaseException:\n        pass\n";
        var plus = Benchmark.Find("humaneval+");
        var live = Benchmark.Find("livecodebench");
        (Benchmark, string, Sample)[] slow =
        [
            (plus, "HumanEvalPlus-v0.1.10.jsonl", new("HumanEval/0", sleeps + "def inc(x):\n    time.sleep(0.6 if x == 10 else 0)\n    return x + 1\n", CompletionMode.Program)),
            (live, "livecodebench_problems.jsonl", new("abc", sleeps + "def total(xs, k):\n    time.sleep(0.6 if xs else 0)\n    return [sum(xs) * k, 1]\n", CompletionMode.Program)),
            (plus, "HumanEvalPlus-v0.1.10.jsonl", new("HumanEval/0", swallows + "def inc(x):\n    nap(0.6 if x == 10 else 0)\n    return x + 1\n", CompletionMode.Program)),
            (live, "livecodebench_problems.jsonl", new("abc", swallows + "def total(xs, k):\n    nap(0.6 if xs else 0)\n    return [sum(xs) * k, 1]\n", CompletionMode.Program)),
        ];
        foreach (var (benchmark, file, sample) in slow)
        {
            var tasks = benchmark.Read([Path.Combine(TinyBenchmarks.Folder(file), file)]);
            var options = Options(benchmark) with { FloorSeconds = 0.3, ReferenceFactor = 0 };
            var score = await Grader.EvaluateAsync(benchmark, tasks, [sample], options, TestContext.Current.CancellationToken);
            Assert.Equal(1, score.Outcomes[SandboxOutcome.TimedOut]);
        }
    }

    [Fact]
    public void The_code_of_a_LiveCodeBench_answer_stands_between_its_last_two_fence_lines()
    {
        var live = Benchmark.Find("livecodebench");
        var task = new BenchmarkTask { TaskId = "x" };
        string Code(string answer) => live.Extract(task, answer).Code;
        Assert.Equal("b = 2\n", Code("```python\na = 1\n```\nbetter:\n``` text\nb = 2\n\n```\nthat is all"));
        Assert.Equal("between", Code("```python\na = 1\n```\nbetween\n```python\ncut"));
        Assert.Equal("a", Code("see ```python\na\n``` end"));
        Assert.Equal("", Code("```python\na = 1"));
        Assert.Equal("", Code("```"));
        Assert.Equal("", Code("a = 1"));
    }

    // MBPP+ and HumanEval+ are asked by a chat prompt: evalplus then adds the fence alone to its common stops.
    [Fact]
    public void The_stops_are_those_of_the_protocols()
    {
        string[] ends = ["<|endoftext|>", "<|endofmask|>", "</s>"];
        string[] chat = [.. ends, "\nif __name__", "\ndef main(", "\nprint(", "\n```\n"];
        foreach (var benchmark in Benchmark.All)
        {
            string[] expected = benchmark.Name switch
            {
                "humaneval" => [.. chat[..^1], "\n```"],
                "mbpp" => [.. ends, "\nassert", "\nprint(", "\n```\n"],
                "humaneval-pro" or "mbpp-pro" or "bigcodebench-lite-pro" => [.. ends, "<|EOT|>"],
                "livecodebench" => ["###"],
                _ => chat,
            };
            Assert.Equal(expected, benchmark.Stops);
        }
    }

    [Fact]
    public async Task Self_invoking_answers_are_scored_as_they_are_and_cut_and_the_higher_counts()
    {
        var pro = Benchmark.Find("humaneval-pro");
        var tasks = pro.Read([Path.Combine(TinyBenchmarks.Folder(), "humaneval_pro.json")]);
        Assert.Equal("HumanEvalPro/0", tasks[0].TaskId);
        Assert.Equal("HumanEvalPro/0", pro.TaskIdOf("0"));
        Assert.Equal("HumanEvalPro/0", pro.TaskIdOf("HumanEval/0"));
        Assert.EndsWith("```python\ndef inc(x):\n    \"\"\"x + 1\"\"\"\n", tasks[0].Prefix, StringComparison.Ordinal);
        NeedSandbox();
        const string answer = "    return x + 1\n# all\ndef inc_all(xs):\n    return [inc(x) for x in xs]\n# Test\nassert inc_all([]) == [1]\n";
        var score = await Score(pro, tasks, [pro.Extract(tasks[0], answer + "```\nmore")]);
        Assert.Equal((0.0, 1.0, 1.0), (score.Plain.PassAt1, score.Sanitized!.PassAt1, score.Summary.PassAt1));
        Assert.Equal("a", pro.Sanitize("a# Example b"));
        Assert.Equal("# Example a", pro.Sanitize("# Example aif __name__ # Test"));
    }

    [Fact]
    public async Task BigCodeBench_is_calibrated_and_counts_every_test()
    {
        var hard = Benchmark.Find("bigcodebench-hard-complete");
        var tasks = hard.Read([Path.Combine(TinyBenchmarks.Folder(), "bigcodebench_hard.json")]);
        NeedSandbox();
        const string forgets = "def task_func(x):\n    return json.dumps(x)\n";
        var calibrated = await Score(hard, tasks, [new("BigCodeBench/1", forgets, CompletionMode.Calibrated), new("BigCodeBench/1", forgets, CompletionMode.Program)]);
        Assert.Equal(0.5, calibrated.Summary.PassAt1);
        var wrong = await Score(hard, tasks, [new("BigCodeBench/1", "def task_func(x):\n    return 0\n", CompletionMode.Calibrated), new("BigCodeBench/1", "import unittest\ndef task_func(x): pass\n")]);
        Assert.Equal(0, wrong.Summary.PassAt1);
        Assert.Contains("Do it.", Benchmark.Find("bigcodebench-hard-instruct").Read([Path.Combine(TinyBenchmarks.Folder(), "bigcodebench_hard.json")])[0].Prompt, StringComparison.Ordinal);
        var lacking = await Score(hard, tasks, [new("BigCodeBench/1", "import no_such_answer_package\n", CompletionMode.Program)]);
        Assert.Equal(1, lacking.Summary.MissingPackages["no_such_answer_package"]);
    }

    [Fact]
    public async Task LiveCodeBench_runs_scripts_and_methods_on_public_and_private_tests()
    {
        var live = Benchmark.Find("livecodebench");
        var tasks = live.Read([Path.Combine(TinyBenchmarks.Folder(), "livecodebench_problems.jsonl")]);
        Assert.Equal([new ScriptCase("2\n", "4\n"), new ScriptCase("3\n", "9\n"), new ScriptCase("-4\n", "16\n")], tasks[0].Cases);
        Assert.Equal((2, "total", "hard", new DateOnly(2024, 12, 1)), (tasks[1].Inputs, tasks[1].EntryPoint, tasks[1].Kind, tasks[1].Date));
        var passed4 = await Passed(
                live, tasks,
                ("1_A", "print(int(input()) ** 2)"), ("1_A", "if __name__ == '__main__':\n  print(float(input()) ** 2)\n  sys.exit(3)"),
                ("1_A", "from __future__ import annotations\nimport sys\nfor line in sys.stdin:\n  print(int(line) ** 2)"),
                ("1_A", "print(abs(int(input()) * 2))"),                        // right on the public test alone
                ("1_A", "print(input())"), ("1_A", "1 / 0"),
                ("abc", "class Solution:\n  def total(self, xs: List[int], k: int):\n    return sum(xs) * k, 1"),
                ("abc", "def total(xs, k):\n  return [sum(xs) * k, 1]"), ("abc", "class Solution:\n  def total(self, xs, k):\n    return [9, 1]"),
                ("abc", "class Solution:\n  def other(self, xs, k):\n    return 9"));
        Assert.Equal([true, true, true, false, false, false, true, true, false, false], passed4);
    }

    [Fact]
    public async Task Verdicts_on_a_real_graded_run_agree_with_the_official_ones()
    {
        NeedSandbox();
        var live = Benchmark.Find("livecodebench");
        var tasks = live.Read([TestFiles.Benchmark("livecodebench_problems.jsonl")]);
        Assert.Equal(509, tasks.Count);
        var expected = new Dictionary<string, string>(StringComparer.Ordinal);
        var samples = new List<Sample>();
        foreach (var (_, row) in JsonRows.Read(TestFiles.Benchmark("livecodebench-graded-run-qwen3-8b.jsonl")))
        {
            expected.Add(row.GetProperty("question_id").GetString()!, row.GetProperty("expect_with_given_tests").GetString()!);
            samples.Add(new Sample(row.GetProperty("question_id").GetString()!, row.GetProperty("code").GetString()!, CompletionMode.Program));
        }

        // What the official grader passed on all tests must pass here; what it failed on a test that is here must fail. Every twelfth, for time.
        var passing = samples.Where(s => expected[s.TaskId] == "pass_all").Where((_, i) => i % 12 == 0);
        var failing = samples.Where(s => expected[s.TaskId] is "fails_public" or "fails_harvested_private").Where((_, i) => i % 24 == 0);
        var score = await Score(live, tasks, [.. passing, .. failing]);
        var wrong = score.Summary.Tasks.Where(t => t.Passed == 1 != (expected[t.TaskId] == "pass_all")).Select(t => t.TaskId).ToList();
        Assert.True(wrong.Count == 0, string.Join(", ", wrong));
    }

    [Fact]
    public void Releases_of_LiveCodeBench_add_tasks_and_the_newest_version_of_a_file_is_taken()
    {
        var live = Benchmark.Find("livecodebench");
        var folder = Directory.CreateTempSubdirectory("z1-releases-");
        string Of(string name) => Path.Combine(folder.FullName, name);
        var rows = TinyBenchmarks.Files["livecodebench_problems.jsonl"].Split('\n');
        File.WriteAllText(Of("test.jsonl"), rows[0] + "\n");
        File.WriteAllText(Of("test2.jsonl"), rows[1] + "\n");
        Assert.Equal(["1_A", "abc"], live.Read(live.Find(folder)!).Select(t => t.TaskId));
        var twice = Assert.Throws<InvalidInputException>(() => live.Read([Of("test2.jsonl"), Of("test.jsonl"), Of("test2.jsonl")])).Message;
        Assert.Contains($"{Of("test2.jsonl")}:1: the task \"abc\" stands twice, first in {Of("test2.jsonl")}:1;", twice, StringComparison.Ordinal);
        for (var release = 3; release <= 6; release++)
        {
            File.WriteAllText(Of($"test{release}.jsonl"), "");
            Assert.Equal(release, live.Find(folder)!.Count);
        }

        File.Delete(Of("test4.jsonl"));
        Assert.Contains("test4.jsonl is missing", Assert.Throws<InvalidInputException>(() => live.Find(folder)).Message, StringComparison.Ordinal);
        File.WriteAllText(Of("HumanEvalPlus-v0.1.9.jsonl"), "");
        File.WriteAllText(Of("HumanEvalPlus-v0.1.10.jsonl"), "");
        Assert.Equal([Of("HumanEvalPlus-v0.1.10.jsonl")], Benchmark.Find("humaneval+").Find(folder)!);

        // The pre-release's files say different things about one task.
        var plus = new[] { "HumanEval.jsonl", "HumanEvalPlus-prerelease.jsonl" }.Select(f => TestFiles.Temporary(TinyBenchmarks.Files[f] + (f == "HumanEval.jsonl" ? TinyBenchmarks.Files[f] : "")));
        Assert.Contains("stands twice, first in", Assert.Throws<InvalidInputException>(() => Benchmark.Find("humaneval+").Read([.. plus])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_file_as_LiveCodeBench_publishes_it_is_read()
    {
        var tasks = Benchmark.Find("livecodebench").Read([TestFiles.Benchmark("livecodebench-original-format-sample.jsonl")]);
        Assert.Equal(40, tasks.Count);
        Assert.Contains(tasks, t => t.EntryPoint == "countSeniors");
        Assert.All(tasks, t => Assert.NotNull(t.Date));
    }

    [Theory]
    [InlineData("humaneval", """{"task_id": "a", "entry_point": "f", "test": "t"}""", "prompt")]
    [InlineData("humaneval", """{"task_id": "a", "prompt": "", "entry_point": "f", "test": " "}""", "no test")]
    [InlineData("humaneval+", """{"task_id": "a", "prompt": "", "entry_point": "f", "canonical_solution": ""}""", "base_input")]
    [InlineData("humaneval+", """{"task_id": "a", "prompt": "", "entry_point": "f'", "canonical_solution": "", "base_input": [[1]]}""", "entry_point")]
    [InlineData("humaneval+", """{"task_id": "a", "prompt": "", "entry_point": "f", "canonical_solution": "", "base_input": [], "plus_input": []}""", "base_input")]
    [InlineData("humaneval+", """{"task_id": "a", "prompt": "", "entry_point": "f", "canonical_solution": "", "base_input": [1]}""", "base_input")]
    [InlineData("humaneval+", """{"task_id": "a", "prompt": "", "entry_point": "f", "canonical_solution": "", "base_input": [[1]], "atol": "x"}""", "atol")]
    [InlineData("humaneval+", """{"task_id": "a", "prompt": "", "entry_point": "f", "canonical_solution": "", "base_input": [[1]], "atol": -1}""", "atol")]
    [InlineData("mbpp", """{"task_id": 1, "text": "x", "code": "y"}""", "test_list")]
    [InlineData("mbpp", """{"task_id": 1, "text": "x", "code": "y", "test_list": []}""", "test_list")]
    [InlineData("mbpp", """{"task_id": 1, "text": "x", "code": "y", "test_list": [1]}""", "test_list")]
    [InlineData("mbpp", """{"task_id": 1, "text": "x", "code": "y", "test_list": ["\udc00"]}""", "\"test_list\" is not valid Unicode")]
    [InlineData("mbpp", """{"task_id": "x", "text": "x", "code": "y", "test_list": ["z"]}""", "task_id")]
    [InlineData("mbpp+", """{"task_id": "Mbpp/x", "prompt": "", "entry_point": "f", "canonical_solution": "", "base_input": [[1]]}""", "task_id")]
    [InlineData("humaneval-pro", """{"id": 1, "raw_problem": "", "new_problem": "", "raw_solution": "", "new_solution": ""}""", "test_code")]
    [InlineData("bigcodebench-complete", """{"task_id": "a", "complete_prompt": "", "instruct_prompt": "", "canonical_solution": "", "test": "t", "entry_point": "f"}""", "code_prompt")]
    [InlineData("livecodebench", """{"question_id": "a", "question_content": ""}""", "public_test_cases")]
    [InlineData("livecodebench", """{"question_id": "a", "question_content": "", "public_test_cases": "[]"}""", "public_test_cases")]
    [InlineData("livecodebench", """{"question_id": "a", "question_content": "", "public_test_cases": "[{}]"}""", "input")]
    [InlineData("livecodebench", """{"question_id": "a", "question_content": "", "public_test_cases": "[", "metadata": "{}"}""", "public_test_cases")]
    [InlineData("livecodebench", """{"question_id": "a", "question_content": "", "public_test_cases": [{"input": "\ud800", "output": "", "testtype": "stdin"}]}""", "Unicode")]
    [InlineData("livecodebench", """{"question_id": "a", "question_content": "", "public_test_cases": "\ud800"}""", "\"public_test_cases\" is not valid Unicode")]
    [InlineData("livecodebench", """{"question_id": "a", "question_content": "", "public_test_cases": [{"input": "", "output": "", "testtype": "functional"}]}""", "names a method")]
    [InlineData("livecodebench", """{"question_id": "a", "question_content": "", "public_test_cases": [{"input": "", "output": "", "testtype": "stdin"}], "private_test_cases": "AAAA"}""", "private_test_cases")]
    [InlineData("livecodebench", """{"question_id": "a", "question_content": "", "public_test_cases": [{"input": "", "output": "", "testtype": "stdin"}], "contest_date": "soon"}""", "contest_date")]
    public void A_bad_row_names_file_line_and_field(string name, string row, string part)
    {
        var error = Assert.Throws<InvalidInputException>(() => Benchmark.Find(name).Read([TestFiles.Temporary("\n" + row + "\n")]));
        Assert.Contains("file.jsonl:2", error.Message, StringComparison.Ordinal);
        Assert.Contains(part, error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', error.Message);
    }

    [Fact]
    public void A_task_that_stands_twice_and_an_unknown_benchmark_are_named()
    {
        var twice = TinyBenchmarks.Files["mbpp.jsonl"] + TinyBenchmarks.Files["mbpp.jsonl"];
        Assert.Contains(":3: the task \"11\"", Assert.Throws<InvalidInputException>(() => Benchmark.Find("mbpp").Read([TestFiles.Temporary(twice)])).Message, StringComparison.Ordinal);
        var unknown = Assert.Throws<InvalidInputException>(() => Benchmark.Find("humanevil")).Message;
        Assert.All(Benchmark.All, b => Assert.Contains(b.Name, unknown, StringComparison.Ordinal));
        Assert.Equal(Benchmark.All.Count, Benchmark.All.Select(b => b.Name).Distinct().Count());
    }

    [Fact]
    public async Task A_second_run_grades_only_what_is_left_and_a_changed_answer()
    {
        NeedSandbox();
        var mbpp = Benchmark.Find("mbpp");
        var tasks = mbpp.Read([Path.Combine(TinyBenchmarks.Folder(), "mbpp.jsonl")]);
        var folder = Directory.CreateTempSubdirectory("z1-journal-").FullName;
        var options = Options(mbpp) with { JournalPath = Path.Combine(folder, "j"), ResultsPath = Path.Combine(folder, "r"), AllowMissing = true };
        List<Sample> samples = [new("11", "def add(a, b): return a + b", CompletionMode.Program), new("601", "def root(a): return 0", CompletionMode.Program)];
        var first = await Grader.EvaluateAsync(mbpp, tasks, samples, options, TestContext.Current.CancellationToken);
        var bytes = await File.ReadAllBytesAsync(options.ResultsPath!, TestContext.Current.CancellationToken);
        var again = await Grader.EvaluateAsync(mbpp, tasks, samples, options, TestContext.Current.CancellationToken);
        Assert.Equal((0, 2, 0.5, 0.5), (first.FromJournal, again.FromJournal, first.PassAt1, again.PassAt1));
        Assert.Equal(bytes, await File.ReadAllBytesAsync(options.ResultsPath!, TestContext.Current.CancellationToken));

        // Killed in the middle of a line: that one alone is graded again.
        var journal = await File.ReadAllTextAsync(options.JournalPath!, TestContext.Current.CancellationToken);
        await File.WriteAllTextAsync(options.JournalPath!, journal[..^20], TestContext.Current.CancellationToken);
        var torn = await Grader.EvaluateAsync(mbpp, tasks, samples, options, TestContext.Current.CancellationToken);
        Assert.Equal((1, 0.5), (torn.FromJournal, torn.PassAt1));
        samples[1] = samples[1] with { Code = "def root(a): return a ** 0.5" };
        var changed = await Grader.EvaluateAsync(mbpp, tasks, samples, options, TestContext.Current.CancellationToken);
        Assert.Equal((1, 1.0), (changed.FromJournal, changed.PassAt1));

        // A package that was missing may be there now, and another interpreter may come to another verdict.
        samples[0] = samples[0] with { Code = "import no_such_package_of_z1" };
        Assert.Equal(1, (await Grader.EvaluateAsync(mbpp, tasks, samples, options, TestContext.Current.CancellationToken)).FromJournal);
        Assert.Equal(1, (await Grader.EvaluateAsync(mbpp, tasks, samples, options, TestContext.Current.CancellationToken)).FromJournal);
        using (var other = new Sandbox(SandboxHost.Candidates(sitePackages: false).First(h => Sandbox.Try(h) is null) with { PythonVersion = "3.0" }))
        {
            var newer = await Grader.EvaluateAsync(mbpp, tasks, samples, options with { Sandbox = other }, TestContext.Current.CancellationToken);
            Assert.Equal((0, 0.5), (newer.FromJournal, newer.PassAt1));
        }

        Assert.NotEqual("", SandboxHost.Candidates(sitePackages: false)[0].PythonVersion);
        await File.WriteAllTextAsync(options.JournalPath!, "nonsense\n" + journal, TestContext.Current.CancellationToken);
        var broken = await Assert.ThrowsAsync<InvalidInputException>(() => Grader.EvaluateAsync(mbpp, tasks, samples, options, TestContext.Current.CancellationToken));
        Assert.Contains(":1 ", broken.Message, StringComparison.Ordinal);
    }

    private static void NeedSandbox()
    {
        if (s_found.Value.Sandbox is null)
        {
            Assert.Skip(s_found.Value.Message);
        }
    }

    /// <summary>How every test of benchmarks grades, in one kept sandbox; skips where programs cannot be confined.</summary>
    internal static EvaluationOptions Confined(Benchmark benchmark)
    {
        NeedSandbox();
        return Options(benchmark);
    }

    private static EvaluationOptions Options(Benchmark benchmark) => new()
    {
        Sandbox = s_found.Value.Sandbox, Limits = benchmark.Limits, FloorSeconds = benchmark.FloorSeconds, ReferenceFactor = benchmark.ReferenceFactor,
        Reference = ReferenceCheck.Exclude, CheckPackages = true, AllowMissing = true,
    };

    private static async Task<BenchmarkScore> References(Benchmark benchmark, DirectoryInfo folder)
    {
        NeedSandbox();
        return await BenchmarkScore.OfAsync(benchmark, benchmark.Read(benchmark.Find(folder)!), null, Options(benchmark), TestContext.Current.CancellationToken);
    }

    private static Task<BenchmarkScore> Score(Benchmark benchmark, IReadOnlyList<BenchmarkTask> tasks, IReadOnlyList<Sample> samples) =>
        BenchmarkScore.OfAsync(benchmark, tasks, samples, Options(benchmark), TestContext.Current.CancellationToken);

    private static async Task<bool[]> Passed(Benchmark benchmark, IReadOnlyList<BenchmarkTask> tasks, params (string Task, string Code)[] answers)
    {
        NeedSandbox();
        var path = TestFiles.Temporary("");
        var samples = answers.Select(a => new Sample(a.Task, a.Code, a.Code.StartsWith("    ", StringComparison.Ordinal) ? CompletionMode.Continuation : CompletionMode.Program)).ToList();
        await Grader.EvaluateAsync(benchmark, tasks, samples, Options(benchmark) with { ResultsPath = path }, TestContext.Current.CancellationToken);
        return [.. TaskVerdicts.Read(path).SelectMany(v => v.Passed)];
    }
}
