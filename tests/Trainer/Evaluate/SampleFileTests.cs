using Xunit;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Evaluate;

namespace Z1Coder.Tests.Trainer.Evaluate;

public sealed class SampleFileTests
{
    [Theory]
    [InlineData("humaneval+", """{"task_id": "HumanEval/0", "solution": "s"}""", "HumanEval/0", CompletionMode.Program)]
    [InlineData("humaneval+", """{"task_id": "HumanEval/0", "completion": "s"}""", "HumanEval/0", CompletionMode.Continuation)]
    [InlineData("mbpp", """{"task_id": 11, "solution": "s"}""", "11", CompletionMode.Program)]
    [InlineData("mbpp", """{"task_id": "Mbpp/11", "solution": "s"}""", "11", CompletionMode.Program)]
    [InlineData("humaneval-pro", """{"task_id": 0, "completion": ["s"]}""", "HumanEvalPro/0", CompletionMode.Continuation)]
    [InlineData("mbpp-pro", """{"task_id": "MbppPro/0", "solution": ["s"]}""", "MbppPro/0", CompletionMode.Program)]
    [InlineData("bigcodebench-hard-complete", """{"task_id": "BigCodeBench/1", "solution": "s", "raw_solution": "r"}""", "BigCodeBench/1", CompletionMode.Calibrated)]
    [InlineData("livecodebench", """{"question_id": "1_A", "code_list": ["s"]}""", "1_A", CompletionMode.Program)]
    public void Each_harness_format_is_read(string name, string row, string task, CompletionMode mode) =>
        Assert.Equal([new Sample(task, "s", mode)], Read(name, row));

    [Fact]
    public void Order_lists_arrays_and_calibration()
    {
        Assert.Equal(["a", "b", "c"], Read("mbpp", "{\"task_id\": 11, \"solution\": \"a\"}\n{\"task_id\": 601, \"solution\": \"b\"}\n{\"task_id\": 11, \"solution\": \"c\"}").Select(s => s.Code));
        Assert.Equal(["a", "b"], Read("livecodebench", """[{"question_id": "1_A", "code_list": ["a", "b"]}]""", ".json").Select(s => s.Code));
        var benchmark = Benchmark.Find("bigcodebench-hard-complete");
        var path = TestFiles.Temporary("""{"task_id": "BigCodeBench/1", "solution": "s"}""");
        Assert.Equal(CompletionMode.Program, SampleFile.Read(path, benchmark, Tasks(benchmark), calibrated: false)[0].Mode);
    }

    [Theory]
    [InlineData("mbpp", """{"solution": "s"}""", "task_id")]
    [InlineData("mbpp", """{"task_id": 5, "solution": "s"}""", "\"5\"")]
    [InlineData("mbpp", """{"task_id": 11, "code": "s"}""", "code_list")]
    [InlineData("mbpp", """{"task_id": 11, "solution": 5}""", "solution")]
    [InlineData("mbpp", """{"task_id": 11, "solution": [5]}""", "solution")]
    [InlineData("mbpp", """{"task_id": 11, "solution": []}""", "empty")]
    [InlineData("livecodebench", """{"task_id": "1_A", "code_list": ["s"]}""", "question_id")]
    [InlineData("livecodebench", """{"question_id": "1_A", "code_list": ["\ud800"]}""", "\"code_list\" is not valid Unicode")]
    [InlineData("mbpp", "{", "JSON")]
    public void A_bad_row_names_file_line_and_field(string name, string row, string part)
    {
        var error = Assert.Throws<InvalidInputException>(() => Read(name, "\n" + row + "\n"));
        Assert.Contains("file.jsonl:2", error.Message, StringComparison.Ordinal);
        Assert.Contains(part, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_task_with_two_lists_stands_twice()
    {
        const string list = """{"question_id": "1_A", "code_list": ["s"]}""";
        Assert.Contains(":2: the task \"1_A\" stands twice", Assert.Throws<InvalidInputException>(() => Read("livecodebench", list + "\n" + list)).Message, StringComparison.Ordinal);
    }

    private static IReadOnlyList<Sample> Read(string name, string text, string extension = ".jsonl")
    {
        var benchmark = Benchmark.Find(name);
        return SampleFile.Read(TestFiles.Temporary(text, extension), benchmark, Tasks(benchmark), calibrated: true);
    }

    private static IReadOnlyList<BenchmarkTask> Tasks(Benchmark benchmark) => benchmark.Read(benchmark.Find(new DirectoryInfo(TinyBenchmarks.Folder()))!);
}
