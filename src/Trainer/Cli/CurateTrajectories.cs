using System.CommandLine;
using Z1Coder.Trainer.Curation;
using Z1Coder.Trainer.Curation.Teacher;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Cli;

/// <summary>z1 curate trajectories FILES… --teacher URL --model NAME --out FILE</summary>
internal static class CurateTrajectories
{
    public static Command Create()
    {
        var files = CurateOptions.Inputs("problems: JSON or JSONL, plain or .gz; an answer in the file is not looked at");
        var fields = CurateOptions.Fields(needsResponse: false);
        var skip = CurateOptions.SkipBroken();
        var teacher = new CurateTeacher(TeacherApi.Completions);
        var command = new Command(
            "trajectories",
            """
            Asks a teacher to reason through each problem, and keeps question and response for z1 train.

            As published (QwQ-32B-Preview, greedy, at most 4,096 tokens, one text as prompt):
                z1 curate trajectories problems.jsonl --teacher http://localhost:8000/v1 --model Qwen/QwQ-32B-Preview --out traces.jsonl
            A chat service with limits of its own, its key in MY_KEY:
                z1 curate trajectories problems.jsonl --teacher URL --model NAME --api chat --key-from MY_KEY --rpm 500 --out traces.jsonl
            Every finished item is on disk at once. After a kill, a signal or an error the same command goes on and asks for nothing twice.
            Cut answers and answers without code stay in the file; z1 curate filter takes them out.
            """)
        { files, fields, skip };
        teacher.AddTo(command);
        command.SetAction(parsed =>
        {
            var prompt = teacher.Prompt(parsed, Trajectories.Prompt, "problem");
            var decoding = teacher.Decoding(parsed);
            var map = parsed.GetValue(fields) is { } text ? FieldMap.Parse(text, needsResponse: false) : null;
            return teacher.Run(
                parsed, "trajectories", [prompt], [],
                () => Problem.Read(parsed.GetValue(files)!, map, CurateOptions.Policy(parsed.GetValue(skip)), new DataReport(),
                    withResponse: false),
                problem => problem.Key, problem => problem.Id,
                (client, problem, cancellation) => Trajectories.AskAsync(client, prompt, decoding, problem, cancellation));
        });
        return command;
    }
}
