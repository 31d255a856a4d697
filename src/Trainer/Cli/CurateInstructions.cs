using System.CommandLine;
using Z1Coder.Trainer.Curation;
using Z1Coder.Trainer.Curation.Teacher;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Cli;

/// <summary>z1 curate instructions DIRS-OR-FILES… --teacher URL --model NAME --out FILE</summary>
internal static class CurateInstructions
{
    public static Command Create()
    {
        var inputs = CurateOptions.Inputs(
            "directories of Python files, or JSONL with a file's text under content, code, text or source (path and license where known)");
        var licenses = new Option<string[]>("--licenses")
        {
            Description = $"SPDX ids that are taken, or any; by default {string.Join(", ", Licenses.Permissive)}",
            AllowMultipleArgumentsPerToken = true,
            DefaultValueFactory = _ => [.. Licenses.Permissive],
        };
        var fewest = new Option<int>("--min-lines") { Description = "fewest lines of a function", DefaultValueFactory = _ => 4 };
        var most = new Option<int>("--max-lines") { Description = "most lines of a function", DefaultValueFactory = _ => 100 };
        var docstring = new Option<int>("--min-docstring-words")
        {
            Description = "fewest words of its docstring", DefaultValueFactory = _ => 5,
        };
        foreach (var option in new[] { fewest, most, docstring })
        {
            PlanCommand.Within(option, 0, int.MaxValue);
        }

        var list = new Option<bool>("--list")
        {
            Description = "ask nobody: list the functions that would be sent, and why the others would not",
        };
        var teacher = new CurateTeacher(TeacherApi.Chat);
        var command = new Command(
            "instructions",
            """
            Turns functions of open-source code into instructions with solutions, as OSS-Instruct does.

                z1 curate instructions src/ --teacher URL --model NAME --temperature 0.7 --out instructions.jsonl
            Taken are functions at the top level of a file that have a docstring and return something, under a permissive licence (by SPDX
            line, by the nearest LICENSE file, or by the JSONL's own field), not too short, not too long, no near duplicates. Replies that fail a
            quality rule stand in OUT.dropped.jsonl with the reason. The prompt is recipes/prompts/instruction.txt. See what would be sent
            with --list, which needs no teacher.
            """)
        { inputs, licenses, fewest, most, docstring, list };
        teacher.AddTo(command, unless: list);
        command.SetAction(parsed =>
        {
            var chosen = parsed.GetValue(licenses)!;
            var options = new SeedOptions
            {
                Licenses = chosen.Contains("any", StringComparer.OrdinalIgnoreCase) ? [] : chosen, FewestLines = parsed.GetValue(fewest),
                MostLines = parsed.GetValue(most),
                FewestDocstringWords = parsed.GetValue(docstring),
            };
            var files = parsed.GetValue(inputs)!;
            if (files.FirstOrDefault(f => !Directory.Exists(f) && !File.Exists(f)) is { } missing)
            {
                throw new InvalidInputException($"{missing}: no such file or directory");
            }

            DataReport? first = null;
            var folder = teacher.OutputDirectory(parsed);
            if (parsed.GetValue(list))
            {
                foreach (var seed in new SeedReader(options, folder, first = new DataReport()).Read(files))
                {
                    Console.WriteLine($"{seed.Id}  {seed.License}  {seed.Function.Lines} lines");
                }

                Print(first);
                return 0;
            }

            var prompt = teacher.Prompt(parsed, Instructions.Prompt, "code");
            var decoding = teacher.Decoding(parsed);
            var code = teacher.Run(
                parsed, "instructions", [prompt], [],
                () =>
                {
                    var report = new DataReport();
                    first ??= report;
                    return new SeedReader(options, folder, report).Read(files);
                },
                Instructions.KeyOf, seed => seed.Id,
                (client, seed, cancellation) => Instructions.AskAsync(client, prompt, decoding, seed, cancellation));
            if (!teacher.IsJson(parsed))
            {
                Print(first!);
            }

            return code;
        });
        return command;
    }

    private static void Print(DataReport report)
    {
        Console.WriteLine($"{report.Records} functions with a docstring, {report.Dropped} not sent");
        foreach (var drop in report.Drops)
        {
            Console.WriteLine($"  {drop.Count} {drop.Reason}, for example {drop.Examples[0]}");
        }
    }
}
