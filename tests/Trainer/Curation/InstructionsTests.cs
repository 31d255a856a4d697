using System.Text.Json;
using Xunit;
using Z1Coder.Perf;
using Z1Coder.Tests.Trainer.Cli;
using Z1Coder.Trainer.Curation;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Tests.Trainer.Curation;

/// <summary>From open-source code to instructions: which functions are sent, which replies are kept.</summary>
public sealed class InstructionsTests : IDisposable
{
    private const string Instruction = "Write a function clamp(x, low, high) that returns x limited to the closed range from low to high.";
    private const string Solution = "```python\ndef clamp(x, low, high):\n    return max(low, min(x, high))\n```";
    private const string Mit =
        "MIT License\n\nPermission is hereby granted, free of charge, to any person obtaining a copy\nof this software";

    private readonly string _folder = Directory.CreateTempSubdirectory("z1-instructions-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData(Mit, "MIT")]
    [InlineData("Apache License\n Version 2.0, January 2004", "Apache-2.0")]
    [InlineData("GNU GENERAL PUBLIC LICENSE\nVersion 3", "GPL")]
    [InlineData("GNU LESSER GENERAL PUBLIC LICENSE", "LGPL")]
    [InlineData("Redistribution and use in source and binary forms ... Neither the name of", "BSD-3-Clause")]
    [InlineData("redistribution and use in source\nand binary forms ...", "BSD-2-Clause")]
    [InlineData("GPL-compatible (the GNU General Public License)\nPYTHON SOFTWARE FOUNDATION LICENSE VERSION 2", "PSF-2.0")]
    [InlineData("All rights reserved.", "unknown")]
    public void Licences_are_recognised_by_their_words(string text, string id) => Assert.Equal(id, Licenses.OfText(text));

    [Fact]
    public void Functions_of_a_directory_pass_licence_size_and_near_duplicate_filters()
    {
        Write("LICENSE", Mit);
        Write("a/one.py", Function("first", "Returns the sum of two given numbers.", "    return a + b"));
        Write("a/copy.py", Function("first", "Returns the sum of two given numbers.", "    return a  +  b"));
        Write("a/test.py", Function("test_x", "Tests that something returns the right thing.", "    return a"));
        Write("a/short.py", Function("brief", "Adds.", "    return a")
            + Function("silent", "Prints the sum of two given numbers.", "    print(a)"));
        Write("a/long.py", Function("long", "Returns something after a very long way.",
            string.Concat(Enumerable.Repeat("    a += 1\n", 150)) + "    return a"));
        Write("gpl/LICENSE", "GNU GENERAL PUBLIC LICENSE");
        Write("gpl/two.py", Function("second", "Returns the product of two given numbers.", "    return a * b"));
        Write("gpl/own.py", "# SPDX-License-Identifier: BSD-3-Clause\n"
            + Function("third", "Returns the difference of two given numbers.", "    return a - b"));
        var report = new DataReport();
        var seeds = new SeedReader(new SeedOptions(), _folder, report).Read([_folder]).ToList();
        Assert.Equal(["a/copy.py:1:first", "gpl/own.py:2:third"], seeds.Select(s => s.Id));
        Assert.Equal(["MIT", "BSD-3-Clause"], seeds.Select(s => s.License));
        Assert.Equal(
            ["a test or an entry point", "docstring too short", "function too long", "licence GPL", "near duplicate", "returns nothing"],
            report.Drops.Select(d => d.Reason).Order());
        Assert.Equal(2, new SeedReader(new SeedOptions { Licenses = ["GPL", "BSD-3-Clause"] }, _folder, new DataReport()).Read([_folder])
            .Count());
        Assert.NotEqual(Instructions.KeyOf(seeds[0]), Instructions.KeyOf(seeds[1]));
    }

    [Fact]
    public void Functions_of_JSONL_come_with_its_licences()
    {
        var source = Function("first", "Returns the sum of two given numbers.", "    return a + b");
        Write("code.jsonl", JsonSerializer.Serialize(new { content = source, path = "x.py", license = "MIT" }) + "\n"
            + JsonSerializer.Serialize(
                new { content = Function("other", "Returns a list with every item doubled.", "    return [2 * x for x in a]"),
                max_stars_repo_licenses = new[] { "GPL-3.0" } }));
        Assert.Equal("x.py:1:first",
            Assert.Single(new SeedReader(new SeedOptions(), _folder, new DataReport()).Read([this["code.jsonl"]])).Id);
        Assert.Equal(2, new SeedReader(new SeedOptions { Licenses = [] }, _folder, new DataReport()).Read([this["code.jsonl"]]).Count());
        Write("bad.jsonl", "{\"path\": \"x\"}");
        Assert.Contains("no text field among content",
            Assert.Throws<InvalidInputException>(() =>
            new SeedReader(new SeedOptions(), _folder, new DataReport()).Read([this["bad.jsonl"]]).Count()).Message);
    }

    [Theory]
    [InlineData(Instruction, Solution, null)]
    [InlineData("", Solution, "no [Instruction] in the reply")]
    [InlineData(Instruction, "", "no [Solution] in the reply")]
    [InlineData("Write clamp.", Solution, "instruction too short")]
    [InlineData("Look at the code above and " + Instruction, Solution, "speaks of code that nobody has seen")]
    [InlineData("As an AI I think that " + Instruction, Solution, "refused")]
    [InlineData(Instruction, "def clamp(): ...", "no Python code block")]
    [InlineData(Instruction, "```python\ndef clamp(x):\n", "no Python code block")]
    [InlineData(Instruction, "```python\nclamp = max\n```", "the solution defines no function")]
    public void What_is_no_instruction_is_named(string instruction, string solution, string? reason) =>
        Assert.Equal(reason, Instructions.Judge(instruction, solution, isCut: false).Reason);

    [Fact]
    public void The_verb_lists_asks_and_judges()
    {
        Write("src/LICENSE", Mit);
        Write("src/a.py", Function("clip", "Returns a number limited to a range.", "    return max(a, b)"));
        Write("src/b.py", Function("glue", "Returns the strings joined by a separator.", "    return a.join(b)"));
        Write("src/c.py", Function("brief", "Adds.", "    return a + b"));
        using var server = new ScriptedTeacher((prompt, _) => LoopbackReply.Answer(
            prompt.Contains("def clip", StringComparison.Ordinal)
                ? $"<think>hm</think>[Instruction]\n{Instruction}\n[Solution]\n{Solution}" : "Here you are!"));
        string[] command = ["curate", "instructions", this["src"], "--out", this["out/i.jsonl"], "--teacher", server.BaseUrl, "--model",
            "m"];
        var listed = Z1Here.Run([.. command, "--list"]).Succeeded().Output;
        Assert.Contains("a.py:1:clip  MIT  7 lines", listed);
        Assert.Contains("3 functions with a docstring, 1 not sent", listed);
        Assert.Equal(listed, Z1Here.Run("curate", "instructions", this["src"], "--list").Succeeded().Output);
        Z1Here.Run("curate", "instructions", this["src"], "--teacher", server.BaseUrl).WasMisused("--out is required without --list", "--model is required");
        Assert.Equal(0, server.Requests);
        var output = Z1Here.Run(command).Succeeded().Output;
        Assert.Contains("1 docstring too short, for example c.py:1:brief", output);
        Assert.Contains("1 records, 1 dropped", output);
        using var record = JsonDocument.Parse(Assert.Single(File.ReadAllLines(this["out/i.jsonl"])));
        Assert.Equal((Instruction, Solution, "MIT", "a.py"),
            (Text(record, "question"), Text(record, "response"), Text(record, "license"), Text(record, "source")));
        using var dropped = JsonDocument.Parse(Assert.Single(File.ReadAllLines(this["out/i.dropped.jsonl"])));
        Assert.Equal(("no [Instruction] in the reply", "Here you are!"), (Text(dropped, "verdict"), Text(dropped, "reply")));
        Z1Here.Run("curate", "instructions", this["none"], "--out", this["x.jsonl"], "--teacher", server.BaseUrl, "--model", "m")
            .FailedWith("no such file or directory");
    }

    private string this[string name] => Path.Combine(_folder, name);

    private static string Text(JsonDocument json, string name) => json.RootElement.GetProperty(name).GetString()!;

    private static string Function(string name, string docstring, string body) =>
        $"def {name}(a, b):\n    \"\"\"{docstring}\n\n    More words here.\n    \"\"\"\n    a = a\n{body}\n\n";

    private void Write(string path, string text)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(this[path])!);
        File.WriteAllText(this[path], text);
    }
}
