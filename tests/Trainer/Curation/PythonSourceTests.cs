using System.Diagnostics;
using Xunit;
using Z1Coder.Trainer.Curation;

namespace Z1Coder.Tests.Trainer.Curation;

/// <summary>Functions at the top level, against Python's own parser.</summary>
public sealed class PythonSourceTests
{
    private const string Source = """"
        import os, sys as system
        from typing import (List,
                            Optional)
        import unused

        X = """
        def not_a_function():
            '''no'''
        """

        @decorate(
            "x")
        def first(a: List[int],
                  b="def x():") -> Optional[int]:
            """First: adds.

            More.
            """
            # a comment
            return (a +
        b)

        async def second():
            r'raw \' string'
            yield system.argv

        class C:
            def method(self):
                "no"
                return 1

        def third(): return 1
        def fourth():
            return 1
        def fifth():
            "only a docstring"

        if X:
            def sixth():
                "inner"
        """";

    [Fact]
    public void Functions_with_docstrings_come_with_what_they_need()
    {
        var functions = PythonSource.Functions(Source).ToList();
        Assert.Equal(["first", "second", "fifth"], functions.Select(f => f.Name));
        Assert.Equal("First: adds.\n\n    More.", functions[0].Docstring);
        Assert.Equal("raw \\' string", functions[1].Docstring);
        Assert.Equal([true, true, false], functions.Select(f => f.Returns));
        Assert.StartsWith("from typing import (List,\n                    Optional)\n\n@decorate(\n    \"x\")\ndef first(",
            functions[0].Source);
        Assert.EndsWith("return (a +\nb)", functions[0].Source);
        Assert.StartsWith("import os, sys as system\n\nasync def second():", functions[1].Source);
        Assert.Equal((11, 11), (functions[0].Line, functions[0].Lines));
        Assert.Equal("fifth", PythonSource.LastFunction(Source));
        Assert.Null(PythonSource.LastFunction("x = 1"));
    }

    [Theory]
    [InlineData("")]
    [InlineData("def")]
    [InlineData("def (")]
    [InlineData("@")]
    [InlineData("@a\n@b")]
    [InlineData("def f(:\n  \"\"\"never closed")]
    [InlineData("\"\\")]
    [InlineData("def f():\n    '")]
    [InlineData("((((\n]]]]")]
    public void What_is_no_Python_gives_nothing(string source) => Assert.Empty(PythonSource.Functions(source));

    [Fact]
    public void The_standard_library_has_the_functions_that_Python_says()
    {
        const string Script = """
            import ast, os, sys, sysconfig
            folder = sysconfig.get_paths()["stdlib"]
            for name in sorted(os.listdir(folder)):
                if name.endswith(".py"):
                    path = os.path.join(folder, name)
                    tree = ast.parse(open(path, "rb").read())
                    for f in tree.body:
                        if isinstance(f, (ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(f, clean=False) and f.body[0].lineno > f.lineno:
                            line = min([f.lineno] + [d.lineno for d in f.decorator_list])
                            print(path, line, f.name, sep="\t")
            """;
        var start = new ProcessStartInfo("python3", ["-I", "-c", Script]) { RedirectStandardOutput = true };
        string[] expected;
        try
        {
            using var python = Process.Start(start)!;
            expected = python.StandardOutput.ReadToEnd().Split('\n', StringSplitOptions.RemoveEmptyEntries);
        }
        catch (System.ComponentModel.Win32Exception)
        {
            Assert.Skip("no python3");
            return;
        }

        Assert.True(expected.Length > 300, $"{expected.Length} functions");
        var found = expected.Select(l => l.Split('\t')[0]).Distinct()
            .SelectMany(path => PythonSource.Functions(File.ReadAllText(path)).Select(f => $"{path}\t{f.Line}\t{f.Name}"));
        var (missing, extra) = (expected.Except(found).ToList(), found.Except(expected).ToList());
        Assert.True(missing.Count + extra.Count == 0,
            $"missing:\n{string.Join('\n', missing.Take(5))}\nextra:\n{string.Join('\n', extra.Take(5))}");
    }
}
