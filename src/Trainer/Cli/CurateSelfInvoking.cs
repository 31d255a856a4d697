using System.CommandLine;
using Z1Coder.Trainer.Curation;
using Z1Coder.Trainer.Curation.Teacher;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Evaluate;

namespace Z1Coder.Trainer.Cli;

/// <summary>z1 curate self-invoking FILES… --teacher URL --model NAME --out FILE</summary>
internal static class CurateSelfInvoking
{
    public static Command Create()
    {
        var files = CurateOptions.Inputs("records with a question and an answer that holds a Python function: JSON or JSONL, plain or .gz");
        var fields = CurateOptions.Fields();
        var skip = CurateOptions.SkipBroken();
        var teacher = new CurateTeacher(TeacherApi.Chat);
        var command = new Command(
            "self-invoking",
            """
            Makes harder problems whose solutions must call the given ones, and keeps what running proves.

                z1 curate self-invoking instructions.jsonl --teacher URL --model NAME --out self-invoking.jsonl
            For each record the teacher invents a harder problem with tests, then solves it. A record is kept when, confined by bubblewrap,
            the tests pass, the base function was called by the solution, and a function that does nothing fails the tests. The rest stands in
            OUT.dropped.jsonl with the reason. The prompts are recipes/prompts/self-invoking*.txt.
            """)
        { files, fields, skip };
        teacher.AddTo(command);
        command.SetAction(parsed =>
        {
            var problem = teacher.Prompt(parsed, SelfInvoking.ProblemPrompt, "problem", "solution", "function");
            var question = teacher.Prompt(parsed, SelfInvoking.QuestionPrompt, "problem", "function", "new_problem", "new_function");
            var decoding = teacher.Decoding(parsed);
            var map = parsed.GetValue(fields) is { } text ? FieldMap.Parse(text) : null;
            var sandbox = Sandbox.Create();
            SelfInvoking? maker = null;
            try
            {
                return teacher.Run(
                    parsed, "self-invoking", [problem, question], [],
                    () => Problem.Read(parsed.GetValue(files)!, map, CurateOptions.Policy(parsed.GetValue(skip)), new DataReport(),
                        withResponse: true),
                    item => item.Key, item => item.Id,
                    (client, item, cancellation) =>
                        LazyInitializer.EnsureInitialized(ref maker, () => new SelfInvoking(client, sandbox, problem, question, decoding))
                            .AskAsync(item, cancellation));
            }
            finally
            {
                maker?.Dispose();
            }
        });
        return command;
    }
}
