using System.Diagnostics;
using Xunit;
using Z1Coder.Trainer.Evaluate;

namespace Z1Coder.Tests.Trainer.Evaluate;

public sealed class CodeExtractorTests
{
    [Theory]
    [InlineData("Sure:\n```python\nx = 1\n```\nDone.", "x = 1\n")]
    [InlineData("```python\na\n```\ntext\n```python\nb\n```", "b\n")]
    [InlineData("```python\na\n```\n```bash\npip install x\n```", "a\n")]
    [InlineData("```\na\n```\n```json\n{}\n```", "a\n")]
    [InlineData("```bash\nls\n```", "ls\n")]
    [InlineData("```Python\r\na\r\n```\r\n", "a\n")]
    [InlineData("```python title=\"x\"\na\n```", "a\n")]
    [InlineData("```py\nunfinished", "unfinished\n")]
    [InlineData("~~~python\na = '```'\n```\n~~~", "a = '```'\n```\n")]
    [InlineData("````python\na\n```\nb\n````", "a\n```\nb\n")]
    [InlineData("1. First:\n   ```python\n   def f():\n       return 1\n   ```\n", "def f():\n    return 1\n")]
    [InlineData("```python\ndef f():\n    \"\"\"\n    ```\n    >>> f()\n    ```\n    \"\"\"\n    return 1\n```", "def f():\n    \"\"\"\n    ```\n    >>> f()\n    ```\n    \"\"\"\n    return 1\n")]
    [InlineData("<think>\n```python\nwrong\n```\n</think>\n```python\nright\n```", "right\n")]
    [InlineData("<think>\n```python\nonly\n```\n", "only\n")]
    [InlineData("    return 1\n", "    return 1\n")]
    [InlineData("from typing import List\n\ndef f():\n    return 1", "from typing import List\n\ndef f():\n    return 1\n")]
    [InlineData("x = 1\ndef f():\n    return x", "x = 1\ndef f():\n    return x\n")]
    [InlineData("Here is the solution you want:\n\ndef f():\n    return 1", "def f():\n    return 1\n")]
    [InlineData("", "")]
    [InlineData("```python\n```", "")]
    public void The_code_is_found(string answer, string expected) =>
        Assert.Equal(expected, CodeExtractor.Extract(answer).Replace("\r", "", StringComparison.Ordinal));

    [Fact]
    public void First_or_last_and_the_entry_point_decide_between_blocks()
    {
        const string answer = "```python\ndef f(x):\n    return 1\n```\nor\n```python\ndef f(x):\n    return 2\n```\nuse\n```python\nprint(f(3))\n```";
        Assert.Equal("print(f(3))\n", CodeExtractor.Extract(answer));
        Assert.Contains("return 2", CodeExtractor.Extract(answer, CodeChoice.Last, "f"), StringComparison.Ordinal);
        Assert.Contains("return 1", CodeExtractor.Extract(answer, CodeChoice.First, "f"), StringComparison.Ordinal);
        Assert.Contains("print", CodeExtractor.Extract(answer, CodeChoice.Last, "g"), StringComparison.Ordinal);
    }

    [Fact]
    public void A_completion_ends_at_the_first_fence()
    {
        Assert.Equal("    return 1\n", CodeExtractor.CutAtFence("    return 1\n```\nprint(1)"));
        Assert.Equal("    return 1", CodeExtractor.CutAtFence("    return 1"));
    }

    [Fact]
    public void Hostile_text_takes_linear_time()
    {
        string[] seeds = ["```\n", "```python\n", "`", "~~~\n```\n", " ", "\n", "```python", "<think>", "</think>", "def f(", "a `` b ``` c\n", "\t```\n"];
        foreach (var seed in seeds)
        {
            var text = string.Concat(Enumerable.Repeat(seed, 3_000_000 / seed.Length));
            var clock = Stopwatch.StartNew();
            CodeExtractor.Extract(text, CodeChoice.Last, "f");
            CodeExtractor.CutAtFence(text);
            Assert.True(clock.Elapsed.TotalSeconds < 60, $"{seed}: {clock.Elapsed}");      // quadratic would be hours
        }
    }
}
