using System.IO.Compression;
using Xunit;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Evaluate;

namespace Z1Coder.Tests.Trainer.Evaluate;

public sealed class HumanEvalTests
{
    private const string Row = """{"task_id": "T/0", "prompt": "def f():\n", "entry_point": "f", "test": "def check(c):\n    assert c() == 1\n", "kind": "plain"}""";

    private static readonly HumanEvalTask s_task = new("T/0", "import math\ndef f():\n    '''doc'''\n", "f", "def check(c):\n    assert c() == 1\n");

    [Fact]
    public void Lines_arrays_and_gzip_give_the_same_tasks()
    {
        var lines = TestFiles.Temporary("\uFEFF" + Row + "\n\n" + Row.Replace("T/0", "T/1", StringComparison.Ordinal));
        var array = TestFiles.Temporary("[\n" + Row + ",\n" + Row.Replace("T/0", "T/1", StringComparison.Ordinal) + "]", ".json");
        var packed = TestFiles.Temporary("", ".jsonl.gz");
        using (var zip = new GZipStream(File.Create(packed), CompressionLevel.Fastest))
        {
            zip.Write(File.ReadAllBytes(lines));
        }

        var tasks = HumanEvalTask.Read(lines);
        Assert.Equal(2, tasks.Count);
        Assert.Equal(new HumanEvalTask("T/1", "def f():\n", "f", "def check(c):\n    assert c() == 1\n", null, "plain"), tasks[1]);
        Assert.Equal(tasks, HumanEvalTask.Read(array));
        Assert.Equal(tasks, HumanEvalTask.Read(packed));
    }

    [Theory]
    [InlineData("{", "file.jsonl:2", "JSON")]
    [InlineData("3", "file.jsonl:2", "object")]
    [InlineData("""{"task_id": "a", "prompt": "", "test": "x"}""", "file.jsonl:2", "\"entry_point\" is missing")]
    [InlineData("""{"task_id": 3, "prompt": "", "entry_point": "f", "test": "x"}""", "file.jsonl:2", "\"task_id\" is a Number")]
    [InlineData("""{"task_id": "a", "prompt": "", "entry_point": "f()", "test": "x"}""", "file.jsonl:2", "f()")]
    [InlineData("""{"task_id": "a", "prompt": "", "entry_point": "f\n", "test": "x"}""", "file.jsonl:2", "entry_point")]
    [InlineData("""{"task_id": "a", "prompt": "\ud800", "entry_point": "f", "test": "x"}""", "file.jsonl:2", "Unicode")]
    [InlineData("""{"task_id": "a", "prompt": "", "entry_point": "f", "test": " "}""", "file.jsonl:2", "empty")]
    [InlineData("""{"task_id": "T/0", "prompt": "", "entry_point": "f", "test": "x"}""", "file.jsonl:2", "twice")]
    public void A_bad_row_is_named(string row, params string[] parts)
    {
        var error = Assert.Throws<InvalidInputException>(() => HumanEvalTask.Read(TestFiles.Temporary(Row + "\n" + row + "\n")));
        Assert.All(parts, part => Assert.Contains(part, error.Message, StringComparison.Ordinal));
    }

    [Fact]
    public void Bad_files_are_named()
    {
        Assert.Contains("nowhere", Assert.Throws<InvalidInputException>(() => HumanEvalTask.Read("/nowhere.jsonl")).Message, StringComparison.Ordinal);
        Assert.Contains("no task", Assert.Throws<InvalidInputException>(() => HumanEvalTask.Read(TestFiles.Temporary(""))).Message, StringComparison.Ordinal);
        var notPacked = TestFiles.Temporary(Row, ".jsonl.gz");
        Assert.Contains(notPacked, Assert.Throws<InvalidInputException>(() => HumanEvalTask.Read(notPacked)).Message, StringComparison.Ordinal);
        var array = TestFiles.Temporary($"[{Row}, 3]", ".json");
        Assert.Contains("element 1", Assert.Throws<InvalidInputException>(() => HumanEvalTask.Read(array)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Prompt_and_code_are_joined_as_the_mode_says()
    {
        const string body = "    return 1\n";
        const string whole = "def f():\n    return 1\n";
        Assert.Equal(s_task.Prompt + body, HumanEvalProgram.Build(s_task, body, CompletionMode.Continuation).Source);
        Assert.Equal(whole, HumanEvalProgram.Build(s_task, whole, CompletionMode.Program).Source);
        Assert.Equal(s_task.Prompt + "\n    pass\n\n" + whole, HumanEvalProgram.Build(s_task, whole, CompletionMode.Calibrated).Source);
        Assert.Equal(s_task.Prompt + body, HumanEvalProgram.Build(s_task, body).Source);
        Assert.Equal(s_task.Prompt + "\n    pass\n\n" + whole, HumanEvalProgram.Build(s_task, whole).Source);
        var future = "from __future__ import annotations\n" + whole;
        Assert.Equal(future, HumanEvalProgram.Build(s_task, future).Source);
    }

    [Fact]
    public void Check_is_called_once_and_tests_without_it_run_as_they_are()
    {
        Assert.EndsWith("\ncheck(f)\n", HumanEvalProgram.Build(s_task, "").Tests, StringComparison.Ordinal);
        var called = s_task with { Test = s_task.Test + "\ncheck(f)\n" };
        Assert.Equal(called.Test, HumanEvalProgram.Build(called, "").Tests);
        var plain = s_task with { Test = "assert f() == 1" };
        Assert.Equal("assert f() == 1", HumanEvalProgram.Build(plain, "").Tests);
    }
}
