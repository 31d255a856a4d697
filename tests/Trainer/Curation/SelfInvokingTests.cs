using System.Text.Json;
using Xunit;
using Z1Coder.Perf;
using Z1Coder.Tests.Trainer.Cli;
using Z1Coder.Trainer.Curation;
using Z1Coder.Trainer.Curation.Teacher;
using Z1Coder.Trainer.Evaluate;

namespace Z1Coder.Tests.Trainer.Curation;

/// <summary>What running proves about a self-invoking problem, and the verb from record to record.</summary>
[Collection("sandbox")]
public sealed class SelfInvokingTests : IDisposable
{
    private const string Solution = "def double(x):\n    return 2 * x\n";
    private const string Good = "def double(x):\n    return x + x\n\ndef double_all(xs):\n    return [double(x) for x in xs]\n";
    private const string Tests = "assert double_all([1, 2]) == [2, 4]\nassert double_all([]) == []\n";

    private readonly string _folder = Directory.CreateTempSubdirectory("z1-self-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData(Good, Tests, null)]
    [InlineData("def double_all(xs):\n    return list(map(double, xs))\n", Tests,
        null)]                     // the base solution of the record serves
    [InlineData("def double_all(xs):\n    return [2 * x for x in xs]\n", Tests, "the base function was not called")]
    [InlineData("def double_all(xs):\n    return [double(x) for x in xs[1:]]\n", Tests, "the tests failed")]
    [InlineData("def double_all(xs):\n    return [2 * x for x in xs]\n", Tests + "assert double(1) == 2\n",
        "the base function was not called")]
    [InlineData("def double(x):\n    return double(x - 1) + 2 if x else 0\n\ndef double_all(xs):\n    return [2 * x for x in xs]\n", Tests
        + "assert double(3) == 6\n", "the base function was not called")]
    [InlineData("def double_all(xs):\n    return [2 * x for x in xs]\n", Tests + "assert all(double_all([i]) == [double(i)] for i in range(5))\n",
        "the base function was not called")]
    [InlineData("def double_all(xs):\n    return [2 * x for x in xs]\n", Tests + "def same(i):\n    return double_all([i]) == [(lambda: double(i))()]\nassert same(2)\n",
        "the base function was not called")]
    [InlineData("def double(x):\n    return sum(double(y) + 2 for y in [x - 1]) if x else 0\n\ndef double_all(xs):\n    return [2 * x for x in xs]\n", Tests
        + "assert double(3) == 6\n", "the base function was not called")]
    [InlineData(Good, "double_all([1])\nassert True\n", "the tests test nothing")]
    [InlineData(Good, "assert double_all([1]) == [2\n", "the tests failed")]
    [InlineData("def double_all(xs):\n    while True:\n        pass\n", Tests, "the program ran out of time")]
    [InlineData("import sys\nsys.exit(0)\ndef double_all(xs): pass\n", Tests, "the tests failed")]
    public async Task Running_decides(string code, string tests, string? reason)
    {
        var sandbox = Confined();
        using var client = new TeacherClient(new TeacherOptions { BaseUrl = "http://localhost:1/v1" }, TeacherApi.Chat, "m");
        using var maker = new SelfInvoking(client, sandbox, Problem(), Question(), new DecodingParameters());
        var verdict = await maker.VerifyAsync(Solution, "double", code, "double_all", tests, TestContext.Current.CancellationToken);
        Assert.Equal(reason, verdict.Reason);
    }

    [Theory]
    [InlineData("double_all", "p", Tests, null)]
    [InlineData("", "p", Tests, "the reply lacks a section")]
    [InlineData("double_all", "", Tests, "the reply lacks a section")]
    [InlineData("double all", "p", Tests, "the function's name is no name")]
    [InlineData("double", "p", "assert double(1) == 2", "the function has the base function's name")]
    [InlineData("double_all", "p", "assert double(1) == 2", "the tests do not call the function")]
    [InlineData("double_all", "p", "print(double_all([]))", "the tests do not call the function")]
    public void A_reply_that_is_no_task_is_named(string name, string problem, string tests, string? reason) =>
        Assert.Equal(reason, SelfInvoking.WhyNoTask("double", name, problem, tests, isCut: false));

    [Fact]
    public void Records_become_verified_records()
    {
        Confined();
        File.WriteAllLines(this["in.jsonl"], new[] { "good", "lazy", "mute", "no code" }.Select(kind => JsonSerializer.Serialize(new
        {
            id = kind, question = $"Double a number ({kind}).", response = kind == "no code" ? "Two times."
                : $"Sure:\n```python\n{Solution}```\n",
        })));
        using var server = new ScriptedTeacher((prompt, _) => LoopbackReply.Answer(
            prompt.StartsWith("Below", StringComparison.Ordinal)
                ? prompt.Contains("(mute)", StringComparison.Ordinal) ? "no idea"
                    : $"[Function]\n`double_all`\n[Problem]\nDouble every number of a list.\n[Tests]\n```python\n{Tests}```"
                : prompt.Contains("(lazy)", StringComparison.Ordinal)
                    ? "```python\ndef double_all(xs):\n    return [2 * x for x in xs]\n```"
                : $"Reasoning first.\n```python\n{Good}```"));
        string[] command = ["curate", "self-invoking", this["in.jsonl"], "--out", this["out.jsonl"], "--teacher", server.BaseUrl,
            "--model", "m", "--json"];
        var json = Z1Here.Run(command).Json();
        Assert.Equal((1, 3), (json.GetProperty("kept").GetInt32(), json.GetProperty("dropped").GetInt32()));
        Assert.Equal(5, server.Requests);
        using var record = JsonDocument.Parse(Assert.Single(File.ReadAllLines(this["out.jsonl"])));
        var question = record.RootElement.GetProperty("question").GetString()!;
        Assert.All(["Double a number (good).", "`double`", "Double every number of a list.", "`double_all`", "one or more calls"],
            part => Assert.Contains(part, question));
        Assert.StartsWith("Reasoning first.", record.RootElement.GetProperty("response").GetString());
        Assert.Equal(Tests, record.RootElement.GetProperty("tests").GetString());
        var reasons = File.ReadAllLines(this["out.dropped.jsonl"])
            .Select(l => JsonDocument.Parse(l).RootElement.GetProperty("verdict").GetString());
        Assert.Equal(["the base function was not called", "the base solution defines no function", "the reply lacks a section"],
            reasons.Order());
        Assert.Equal(4, Z1Here.Run(command).Json().GetProperty("done_before").GetInt32());
        Assert.Equal(5, server.Requests);
    }

    [Theory]
    [InlineData("humaneval_pro.json")]
    [InlineData("mbpp_pro.json")]
    public async Task The_published_self_invoking_problems_verify(string file)
    {
        const int Most = 30;                            // an even share of the file: the whole of it takes minutes on two cores
        var path = Goldens.RequireData("benchmarks", file);
        var sandbox = Confined();
        using var client = new TeacherClient(new TeacherOptions { BaseUrl = "http://localhost:1/v1" }, TeacherApi.Chat, "m");
        using var maker = new SelfInvoking(client, sandbox, Problem(), Question(), new DecodingParameters());
        using var json = JsonDocument.Parse(await File.ReadAllBytesAsync(path, TestContext.Current.CancellationToken));
        var tasks = json.RootElement.EnumerateArray().ToList();
        var chosen = Enumerable.Range(0, Most).Select(i => tasks[i * tasks.Count / Most]).ToList();
        var verdicts = await Task.WhenAll(chosen.Select(async task =>
        {
            string Text(string name) => task.GetProperty(name).GetString()!;
            var (solution, code) = (Text("raw_problem") + "\n" + Text("raw_solution"), Text("new_problem") + "\n" + Text("new_solution"));
            var (function, name) = (PythonSource.LastFunction(solution)!, PythonSource.LastFunction(code)!);
            var verdict = await maker.VerifyAsync(solution, function, code, name, Text("test_code"), TestContext.Current.CancellationToken);
            return (Id: task.GetProperty("id").ToString(), verdict.Reason);
        }));

        // by the benchmark's own rules every task passes its tests; that each calls its base function is what the paper asks of them, not
        // what its files promise
        // (and HumanEval Pro 32 expects None of every call, which a function that does nothing returns too)
        Assert.All(verdicts, v => Assert.True(
            v.Reason is null or "the base function was not called" || (file == "humaneval_pro.json" && v is ("32", "the tests test nothing")),
            $"{v.Id}: {v.Reason}"));
        var kept = verdicts.Count(v => v.Reason is null);
        Assert.True(kept >= Most * 9 / 10,
            $"{kept} of {Most}: {string.Join(", ", verdicts.Where(v => v.Reason is not null).Select(v => $"{v.Id} {v.Reason}"))}");
        TestContext.Current.SendDiagnosticMessage($"{file}: {kept} of {Most} verified");
    }

    private string this[string name] => Path.Combine(_folder, name);

    private static PromptFile Problem() => PromptFile.Load(SelfInvoking.ProblemPrompt, null, "problem", "solution", "function");

    private static PromptFile Question() =>
        PromptFile.Load(SelfInvoking.QuestionPrompt, null, "problem", "function", "new_problem", "new_function");

    private static Sandbox Confined()
    {
        try
        {
            return Sandbox.Create();
        }
        catch (SandboxException e)
        {
            Assert.Skip(e.Message);
            throw;
        }
    }
}
