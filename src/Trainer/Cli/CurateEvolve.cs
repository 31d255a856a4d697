using System.CommandLine;
using Z1Coder.Trainer.Curation;
using Z1Coder.Trainer.Curation.Teacher;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Cli;

/// <summary>z1 curate evolve FILES… --teacher URL --model NAME --out FILE</summary>
internal static class CurateEvolve
{
    public static Command Create()
    {
        var files = CurateOptions.Inputs("problems: JSON or JSONL, plain or .gz");
        var fields = CurateOptions.Fields(needsResponse: false);
        var skip = CurateOptions.SkipBroken();
        string[] all = [.. Enum.GetNames<EvolveOperation>().Select(name => name.ToLowerInvariant())];
        var operations = new Option<string[]>("--operations")
        {
            Description = "in depth: constraints, deepen, concretize, reasoning; in breadth: breadth. Each problem gets one of them",
            AllowMultipleArgumentsPerToken = true,
            DefaultValueFactory = _ => all,
        };
        operations.AcceptOnlyFromAmong(all);
        var draw = new Option<ulong>("--draw") { Description = "draws other operations", DefaultValueFactory = _ => 1 };
        var added = new Option<int>("--most-added-words")
        {
            Description = "in depth: more than this is dropped (the prompt asks for 10 to 20)", DefaultValueFactory = _ => 60,
        };
        PlanCommand.Within(added, 1, 100_000);
        var teacher = new CurateTeacher(TeacherApi.Chat);
        var command = new Command(
            "evolve",
            """
            Makes harder problems (in depth) and rarer ones (in breadth) from problems, as Evol-Instruct does; one round a run.

                z1 curate evolve problems.jsonl --teacher URL --model NAME --temperature 0.7 --out round1.jsonl
                z1 curate evolve round1.jsonl   --teacher URL --model NAME --temperature 0.7 --out round2.jsonl
            Problems that did not evolve stand in OUT.dropped.jsonl with the reason. The prompts are recipes/prompts/evolve-*.txt.
            """)
        { files, fields, skip, operations, draw, added };
        teacher.AddTo(command);
        command.SetAction(parsed =>
        {
            var chosen = parsed.GetValue(operations)!.Distinct().Select(name => Enum.Parse<EvolveOperation>(name, ignoreCase: true))
                .ToList();
            var prompts = chosen.ToDictionary(o => o, o => teacher.Prompt(parsed, Evolve.PromptOf(o), "problem"));
            var (decoding, seed, most) = (teacher.Decoding(parsed), parsed.GetValue(draw), parsed.GetValue(added));
            var map = parsed.GetValue(fields) is { } text ? FieldMap.Parse(text, needsResponse: false) : null;
            return teacher.Run(
                parsed, "evolve", [.. prompts.Values], [("draw", $"{seed}"), ("most_added_words", $"{most}")],
                () => Problem.Read(parsed.GetValue(files)!, map, CurateOptions.Policy(parsed.GetValue(skip)), new DataReport(),
                    withResponse: false),
                problem => problem.Key, problem => problem.Id,
                (client, problem, cancellation) =>
                {
                    var operation = Evolve.Choose(problem, chosen, seed);
                    return Evolve.AskAsync(client, prompts[operation], decoding, operation, most, problem, cancellation);
                });
        });
        return command;
    }
}
