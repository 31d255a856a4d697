using System.Security.Cryptography;
using System.Text.Json;
using System.Text.RegularExpressions;
using Xunit;
using Z1Coder.Trainer.Curation.Nano;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Tests.Trainer.Curation;

/// <summary>Reads the files as a stranger would: what is proved here is proved of the text, not of the generator's own records.</summary>
public sealed class NanoCorpusTests : IClassFixture<NanoCorpusTests.Written>
{
    private readonly Written _written;

    public NanoCorpusTests(Written written)
    {
        _written = written;
    }

    [Fact]
    public void Files_have_the_promised_records()
    {
        string[] names = ["stage1.jsonl", "stage2.jsonl", "stage1-answers.jsonl", "stage2-answers.jsonl", "heldout.jsonl", "probe.jsonl"];
        Assert.Equal(names, _written.Manifest.Files.Select(f => f.Name));
        Assert.Equal([14_000, 18_000, 14_000, 18_000, 200, 40], _written.Manifest.Files.Select(f => f.Records));
        foreach (var file in _written.Manifest.Files)
        {
            var bytes = File.ReadAllBytes(Path.Combine(_written.Directory, file.Name));
            Assert.Equal(file.Bytes, bytes.Length);
            Assert.Equal(file.Sha256, Convert.ToHexStringLower(SHA256.HashData(bytes)));
            Assert.Equal(file.Records, bytes.Count(b => b == '\n'));
        }

        using var manifest = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(_written.Directory, NanoCorpus.Manifest)));
        Assert.Equal("scripted", manifest.RootElement.GetProperty("teacher").GetString());
        Assert.Equal(6, manifest.RootElement.GetProperty("files").GetArrayLength());
    }

    [Fact]
    public void Training_texts_and_ids_are_distinct_and_a_quarter_of_stage_2_is_plain()
    {
        foreach (var (name, plain) in new[] { (NanoCorpus.Stage1, 14_000), (NanoCorpus.Stage2, 4_500) })
        {
            var records = _written.Read(name);
            Assert.Equal(records.Count, records.Select(r => r["id"]).Distinct().Count());
            Assert.Equal(records.Count, records.Select(r => r["question"]).Distinct().Count());
            Assert.Equal(plain, records.Count(r => r["kind"] == "plain"));
            Assert.All(records, r => Assert.Contains(r["kind"], new[] { "plain", "self-invoking" }));
        }
    }

    [Fact]
    public void Nothing_held_out_occurs_in_training()
    {
        var heldOut = _written.Read(NanoCorpus.HeldOut);
        var texts = heldOut.Select(r => r["prompt"]).ToHashSet();
        var reserved = new Regex(@"(?<![0-9])(13|17|24|28|35|37|41|46|52|59|63|68|74|86|91)(?![0-9])");
        var shapes = heldOut.Select(r => Shape(r["canonical_solution"])).ToHashSet();
        Assert.True(shapes.Count > 80, $"{shapes.Count} combinations");
        foreach (var name in new[] { NanoCorpus.Stage1, NanoCorpus.Stage2, NanoCorpus.Stage1Answers, NanoCorpus.Stage2Answers })
        {
            foreach (var record in _written.Read(name))
            {
                Assert.DoesNotContain(record["question"], texts);
                Assert.DoesNotMatch(reserved, record["question"] + record["response"]);
                Assert.DoesNotContain(Shape(record["response"].Split("```python\n")[1].Split("```")[0]), shapes);
            }
        }

        foreach (var record in heldOut)
        {
            var numbers = Regex.Matches(record["canonical_solution"], "[0-9]+").Select(m => int.Parse(m.Value)).Where(n => n > 2);
            Assert.True(!numbers.Any() || reserved.IsMatch(record["prompt"]), record["prompt"]);
        }
    }

    [Fact]
    public void The_decontamination_check_finds_what_is_planted()
    {
        var heldOut = NanoHeldOut.Make(1, 20, 5, selfInvoking: true).ConvertAll(h => h.Task);
        var training = NanoGenerator.Training(1, 2, 50, 25);
        Assert.True(NanoDecontamination.Check(training, heldOut).IsClean);

        // The base function of a held-out problem, asked alone and with ordinary constants: the combination gives it away.
        var problem = heldOut[0].Base with { First = Ordinary(heldOut[0].Base.First), Second = Ordinary(heldOut[0].Base.Second) };
        Assert.Equal(1, NanoDecontamination.Check([.. training, new NanoTask(problem, null)], heldOut).CombinationHits);

        var task = training.First(t => t.Base.First.Clause.HasConstant);
        var planted = task with { Base = task.Base with { First = task.Base.First with { Constant = 37 } } };
        Assert.Equal(1, NanoDecontamination.Check([.. training, planted], heldOut).ConstantHits);
        Assert.Equal(1, NanoDecontamination.Check([.. training, heldOut[1]], heldOut).TextHits);

        static NanoStep Ordinary(NanoStep step) => step.Clause.HasConstant ? step with { Constant = 20 } : step;
    }

    [Fact]
    public void The_manifest_says_that_training_is_clean()
    {
        Assert.True(_written.Manifest.Stage1.IsClean);
        Assert.True(_written.Manifest.Stage2.IsClean);
        Assert.Equal((14_000, 200), (_written.Manifest.Stage1.Training, _written.Manifest.Stage1.HeldOut));
        Assert.Equal((18_000, 200), (_written.Manifest.Stage2.Training, _written.Manifest.Stage2.HeldOut));
    }

    [Fact]
    public void Answers_are_the_same_problems_without_the_reasoning()
    {
        (string, string)[] pairs = [(NanoCorpus.Stage1, NanoCorpus.Stage1Answers), (NanoCorpus.Stage2, NanoCorpus.Stage2Answers)];
        foreach (var (with, without) in pairs)
        {
            foreach (var (reasoned, answer) in _written.Read(with).Zip(_written.Read(without)))
            {
                Assert.Equal((reasoned["id"], reasoned["question"]), (answer["id"], answer["question"]));
                Assert.StartsWith("```python\ndef ", answer["response"], StringComparison.Ordinal);
                Assert.StartsWith("Plan for ", reasoned["response"], StringComparison.Ordinal);
                Assert.EndsWith("\n\n" + answer["response"], reasoned["response"], StringComparison.Ordinal);
            }
        }
    }

    [Fact]
    public void Each_name_has_a_cue_of_its_own_in_the_reasoning()
    {
        foreach (var name in new[] { NanoCorpus.Stage1, NanoCorpus.Stage2 })
        {
            foreach (var record in _written.Read(name))
            {
                var parts = record["response"].Split("\n\n```python\n");
                Assert.Equal(2, parts.Length);
                var cues = Regex.Matches(parts[0], @"^(Plan for|Then) (\w+)\(", RegexOptions.Multiline);
                string[] expected = record["kind"] == "plain" ? ["Plan for"] : ["Plan for", "Then"];
                Assert.Equal(expected, cues.Select(m => m.Groups[1].Value));
                Assert.Equal(Functions(parts[1]), cues.Select(m => m.Groups[2].Value));
            }
        }
    }

    [Fact]
    public void Stage_1_has_one_function_a_problem_and_every_name_that_stage_2_uses()
    {
        var stage1 = _written.Read(NanoCorpus.Stage1).ConvertAll(r => Functions(r["response"]));
        Assert.All(stage1, names => Assert.Single(names));
        var known = stage1.Select(names => names[0]).ToHashSet();
        var selfInvoking = _written.Read(NanoCorpus.Stage2).FindAll(r => r["kind"] == "self-invoking");
        var pairs = selfInvoking.ConvertAll(r => Functions(r["response"]));
        Assert.All(pairs, names => Assert.Equal(2, names.Count));
        Assert.Subset(known, pairs.SelectMany(names => names).ToHashSet());
        Assert.Equal((20, 12), (pairs.Select(p => p[0]).Distinct().Count(), pairs.Select(p => p[1]).Distinct().Count()));
        Assert.Empty(pairs.Select(p => p[0]).Intersect(pairs.Select(p => p[1])));
    }

    [Fact]
    public void The_probe_is_part_of_the_benchmark()
    {
        var heldOut = _written.Read(NanoCorpus.HeldOut).ToDictionary(r => r["task_id"]);
        var probe = _written.Read(NanoCorpus.Probe);
        Assert.Equal(20, probe.Count(r => r["kind"] == "plain"));
        Assert.All(probe, r => Assert.Equal(heldOut[r["task_id"]], r));
    }

    [Fact]
    public void The_same_options_give_the_same_bytes_and_another_seed_does_not()
    {
        var options = new NanoOptions { Stage1Problems = 300, Stage2Problems = 200, HeldOutPlain = 20, HeldOutSelfInvoking = 9, Probe = 9 };
        using var once = new Written(options);
        using var again = new Written(options);
        using var other = new Written(options with { Seed = 2 });
        Assert.Equal(once.Manifest.Files, again.Manifest.Files);
        Assert.All(once.Manifest.Files.Zip(other.Manifest.Files), pair => Assert.NotEqual(pair.First.Sha256, pair.Second.Sha256));
    }

    [Fact]
    public void A_larger_corpus_begins_with_the_smaller_one()
    {
        var small = NanoGenerator.Training(1, 2, 100, 25).ConvertAll(NanoQuestion.Of);
        Assert.Equal(small, NanoGenerator.Training(1, 2, 300, 25).Take(100).Select(NanoQuestion.Of));
    }

    [Fact]
    public void Impossible_options_are_refused_in_one_sentence()
    {
        foreach (var options in new NanoOptions[]
        {
            new() { Stage1Problems = -1 }, new() { Stage2PlainPercent = 101 }, new() { HeldOutPlain = -1 }, new() { Probe = 202 },
        })
        {
            var error = Assert.Throws<InvalidInputException>(() => NanoCorpus.Write("unused", options));
            Assert.StartsWith("nano: ", error.Message, StringComparison.Ordinal);
        }
    }

    private static List<string> Functions(string text) =>
        [.. Regex.Matches(text, @"^def (\w+)\(", RegexOptions.Multiline).Select(m => m.Groups[1].Value)];

    // The first function of a program with its name and its constants taken out: an independent reading of "combination". The source
    // line of a range goes too, so that lists and ranges compare.
    private static string Shape(string program)
    {
        var body = program.Split("\n\n")[0].Split('\n')[1..].Where(line => line != "    xs = range(1, n + 1)");
        return Regex.Replace(string.Join('\n', body).TrimEnd(), @"[0-9]+", m => int.Parse(m.Value) < 3 ? m.Value : "N");
    }

    public sealed class Written : IDisposable
    {
        private readonly Dictionary<string, List<Dictionary<string, string>>> _read = [];

        public Written()
            : this(new NanoOptions())
        {
        }

        internal Written(NanoOptions options)
        {
            Directory = Path.Combine(Path.GetTempPath(), $"z1-nano-{Guid.NewGuid():N}");
            Manifest = NanoCorpus.Write(Directory, options);
        }

        public string Directory { get; }

        public NanoManifest Manifest { get; }

        public List<Dictionary<string, string>> Read(string name)
        {
            if (!_read.TryGetValue(name, out var records))
            {
                var lines = File.ReadLines(Path.Combine(Directory, name));
                records = [.. lines.Select(line => JsonSerializer.Deserialize<Dictionary<string, string>>(line)!)];
                _read.Add(name, records);
            }

            return records;
        }

        public void Dispose() => System.IO.Directory.Delete(Directory, recursive: true);
    }
}
