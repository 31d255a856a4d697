using System.Runtime.ExceptionServices;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Tokens;

namespace Z1Coder.Trainer.Batches;

/// <summary>Files read, filtered, tokenised and split. Samples stand in the order of the files, whatever the number of cores.</summary>
public sealed class SftDataset
{
    private const int RecordsAtOnce = 2048;       // text held in memory while it is tokenised

    private SftDataset(IReadOnlyList<TokenizedSample> train, IReadOnlyList<TokenizedSample> eval, DataReport report)
    {
        (Train, Eval, Report) = (train, eval, report);
    }

    /// <summary>Samples to train on; at least one. A sample's index here is its id in step plans and batches.</summary>
    public IReadOnlyList<TokenizedSample> Train { get; }

    /// <summary>Samples held out; none of their prompts is in <see cref="Train"/>.</summary>
    public IReadOnlyList<TokenizedSample> Eval { get; }

    /// <summary>What was read, kept and left out.</summary>
    public DataReport Report { get; }

    /// <summary>Reads all files. The functions are those of <see cref="SampleTokenizer"/>; they are called from several threads at once.</summary>
    public static SftDataset Load(
        DatasetOptions options, Func<string, int[]> encode, int endToken, Func<IReadOnlyList<ChatMessage>, bool, string>? renderChat = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.Validate();
        var loader = new Loader(options, new SampleTokenizer(options, encode, endToken, renderChat));
        var reader = new SftReader(options.Fields, options.BrokenLines, loader.Report);
        foreach (var file in options.Files)
        {
            foreach (var record in reader.Read(file))
            {
                loader.Add(record);
            }
        }

        loader.Flush();
        var files = string.Join(", ", options.Files);
        if (loader.Train.Count == 0)
        {
            throw new InvalidInputException(
                $"data: no sample to train on is left of the {loader.Report.Records} records of {files}; {Summary(loader.Report)}");
        }

        if (options.EvalFraction > 0 && loader.Eval.Count == 0)
        {
            throw new InvalidInputException(
                $"data: an eval fraction of {options.EvalFraction} holds out none of the {loader.Train.Count} samples of {files}; raise it, or set it to 0");
        }

        return new SftDataset(loader.Train, loader.Eval, loader.Report);
    }

    private static string Summary(DataReport report) =>
        report.Records == 0 ? "the files hold no record"
        : string.Join(", ", report.Drops.Select(drop => $"{drop.Count} {drop.Reason}").Append($"{report.EvalSamples} held out"));

    private sealed class Loader(DatasetOptions options, SampleTokenizer tokenizer)
    {
        private readonly RecordFilter _filter = new(options.Deduplicate);
        private readonly List<SftRecord> _waiting = [];
        private readonly TokenizedSample?[] _samples = new TokenizedSample?[RecordsAtOnce];
        private readonly Verdict[] _verdicts = new Verdict[RecordsAtOnce];
        private readonly ExceptionDispatchInfo?[] _failures = new ExceptionDispatchInfo?[RecordsAtOnce];

        public DataReport Report { get; } = new();

        public List<TokenizedSample> Train { get; } = [];

        public List<TokenizedSample> Eval { get; } = [];

        public void Add(SftRecord record)
        {
            var verdict = _filter.Judge(record);
            if (!verdict.IsKept)
            {
                Report.Drop(verdict.Reason!, record.Id);
                return;
            }

            _waiting.Add(record);
            if (_waiting.Count == RecordsAtOnce)
            {
                Flush();
            }
        }

        public void Flush()
        {
            Parallel.For(0, _waiting.Count, TokenizeOne);
            for (var i = 0; i < _waiting.Count; i++)
            {
                _failures[i]?.Throw();            // the first in file order, whichever thread was first in time
                if (_samples[i] is { } sample)
                {
                    Keep(_waiting[i], sample);
                }
                else
                {
                    Report.Drop(_verdicts[i].Reason!, _waiting[i].Id);
                }
            }

            _waiting.Clear();
        }

        private void TokenizeOne(int i)
        {
            try
            {
                _samples[i] = tokenizer.Tokenize(_waiting[i], out _verdicts[i]);
            }
            catch (Exception e)
            {
                _failures[i] = ExceptionDispatchInfo.Capture(e);
            }
        }

        private void Keep(SftRecord record, TokenizedSample sample)
        {
            var heldOut = EvalSplit.IsHeldOut(record, options.EvalFraction, options.SplitSeed);
            (heldOut ? Eval : Train).Add(sample);
            Report.TrainSamples += heldOut ? 0 : 1;
            Report.EvalSamples += heldOut ? 1 : 0;
            Report.Truncated += sample.TokensCut > 0 ? 1 : 0;
            Report.LostEndToken += sample.LostEndToken ? 1 : 0;
            Report.EndTokenInside += sample.EndTokenInside ? 1 : 0;
            Report.Tokens += sample.Length;
            Report.LossTokens += sample.LossTokens;
            Report.TokensCut += sample.TokensCut;
            Report.LongestSample = Math.Max(Report.LongestSample, sample.Length);
        }
    }
}
