using System.Text.RegularExpressions;
using Xunit;
using Z1Coder.Trainer.Curation.Nano;

namespace Z1Coder.Tests.Trainer.Curation;

/// <summary>Python is the oracle: what the C# semantics expect must be what the programs do, and wrong programs must fail.</summary>
public sealed class NanoBenchmarkTests
{
    private static readonly Lazy<List<NanoHeldOut>> s_heldOut = new(() =>
        [.. NanoHeldOut.Make(1, 10, 100, selfInvoking: false), .. NanoHeldOut.Make(1, 20, 100, selfInvoking: true)]);

    [Fact]
    public void Canonical_solutions_pass_their_tests()
    {
        var answers = Python.Run(s_heldOut.Value.Select(h => (NanoTeacher.Program(h.Task), h.Test, h.Task.EntryPoint)));
        Assert.Equal(200, answers.Count);
        Assert.All(answers, a => Assert.Equal("pass", a));
    }

    [Fact]
    public void The_teacher_is_right_about_training_problems_too()
    {
        var tasks = NanoGenerator.Training(3, 1, 400, 100).Concat(NanoGenerator.Training(3, 2, 400, 25)).ToList();
        var cases = new List<(string, string, string)>();
        foreach (var task in tasks)
        {
            // Some training problems have no test that tells every mutant; those are left out here.
            var random = new NanoRandom(3, 77, (ulong)cases.Count);
            if (NanoTests.Of(task, ref random) is { } test)
            {
                var response = NanoTeacher.Respond(task);
                var program = response.Split("```python\n")[1].Split("```")[0];
                cases.Add((program, test, task.EntryPoint));
            }
        }

        Assert.True(cases.Count > 600, $"only {cases.Count} of 800 problems could be tested");
        var answers = Python.Run(cases);
        Assert.Equal(cases.Count, answers.Count);
        Assert.All(answers, a => Assert.Equal("pass", a));
    }

    [Fact]
    public void A_wrong_clause_form_or_constant_fails()
    {
        var cases = new List<(string Program, string Test, string Entry)>();
        foreach (var held in s_heldOut.Value)
        {
            foreach (var mutant in NanoMutants.Of(held.Task.Base))
            {
                cases.Add((NanoTeacher.Program(held.Task with { Base = mutant }), held.Test, held.Task.EntryPoint));
            }

            foreach (var mutant in held.Task.Call is { } call ? NanoMutants.Of(call) : [])
            {
                cases.Add((NanoTeacher.Program(held.Task with { Call = mutant }), held.Test, held.Task.EntryPoint));
            }
        }

        AllFail(cases, atLeast: 4000);
    }

    [Fact]
    public void Every_number_of_the_program_counts()
    {
        var cases = new List<(string Program, string Test, string Entry)>();
        foreach (var held in s_heldOut.Value)
        {
            var program = NanoTeacher.Program(held.Task);
            foreach (var number in Regex.EnumerateMatches(program, "[0-9]+"))
            {
                var value = int.Parse(program.AsSpan(number.Index, number.Length));
                if (value < 3)
                {
                    continue;
                }

                foreach (var wrong in new[] { value - 1, value + 1, value / 10, value + 10 })
                {
                    if (wrong > 1)
                    {
                        var mutant = $"{program.AsSpan(0, number.Index)}{wrong}{program.AsSpan(number.Index + number.Length)}";
                        cases.Add((mutant, held.Test, held.Task.EntryPoint));
                    }
                }
            }
        }

        AllFail(cases, atLeast: 600);
    }

    [Fact]
    public void A_self_invoking_answer_needs_both_functions()
    {
        var cases = new List<(string Program, string Test, string Entry)>();
        foreach (var held in s_heldOut.Value.Where(h => h.Task.Call is not null))
        {
            var parts = NanoTeacher.Program(held.Task).Split("\n\n");
            Assert.Equal(2, parts.Length);
            Assert.Contains($"{held.Task.Base.Name}(", parts[1], StringComparison.Ordinal);
            cases.Add((parts[0], held.Test, held.Task.EntryPoint));
            cases.Add((parts[1], held.Test, held.Task.EntryPoint));
        }

        AllFail(cases, atLeast: 200);
    }

    [Fact]
    public void Worked_examples_are_what_the_program_computes()
    {
        var cases = new List<(string Program, string Test, string Entry)>();
        foreach (var task in NanoGenerator.Training(4, 1, 300, 100).Where(t => t.Base.Family == NanoFamily.List))
        {
            var example = Regex.Match(NanoTeacher.Respond(task, workedExample: true), @"- try (\[.*?\]): keep .*, return (-?\d+)\n");
            Assert.True(example.Success);
            var test = $"def check(candidate):\n    assert candidate({example.Groups[1].Value}) == {example.Groups[2].Value}\n";
            cases.Add((NanoTeacher.Program(task), test, task.EntryPoint));
        }

        Assert.True(cases.Count > 100);
        Assert.All(Python.Run(cases), a => Assert.Equal("pass", a));
    }

    [Fact]
    public void Every_test_has_six_to_ten_cases_with_the_empty_input()
    {
        foreach (var held in s_heldOut.Value)
        {
            var empty = held.Task.Base.Family switch { NanoFamily.List => "([]", NanoFamily.Text => "(\"\"", _ => "(0" };
            var first = held.Task.Call is null ? "candidate" : held.Task.Base.Name;
            Assert.Contains($"    assert {first}{empty}) == ", held.Test, StringComparison.Ordinal);
            foreach (var function in held.Task.Call is null ? [first] : new[] { first, "candidate" })
            {
                Assert.InRange(Regex.Count(held.Test, $"    assert {function}\\("), 6, 10);
            }
        }
    }

    private static void AllFail(List<(string Program, string Test, string Entry)> cases, int atLeast)
    {
        Assert.True(cases.Count >= atLeast, $"only {cases.Count} wrong programs");
        var answers = Python.Run(cases);
        Assert.Equal(cases.Count, answers.Count);
        for (var i = 0; i < cases.Count; i++)
        {
            Assert.True(answers[i].StartsWith("fail", StringComparison.Ordinal), $"passes:\n{cases[i].Program}\n{cases[i].Test}");
        }
    }
}
