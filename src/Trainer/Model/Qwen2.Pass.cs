using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Trainer.Model;

public sealed partial class Qwen2<T>
{
    /// <summary>
    /// One pass over rows of paged sequences: their keys and values go into the pages, and the logits of the wanted rows come out, with their
    /// argmax. A prompt pass always multiplies P rows (<see cref="Matmul.ForwardBlock"/>); other passes, and the head, take
    /// <see cref="Matmul.ForwardRows"/>: what a row gets does not depend on the other rows.
    /// </summary>
    /// <param name="stream">where it runs</param>
    /// <param name="a">receives logits and their argmax</param>
    /// <param name="cache">read and appended to</param>
    /// <param name="pass">the rows; their tokens and pages are those of the model and the cache</param>
    /// <param name="prompt">whether the rows are tokens of prompts; else each sequence has one row</param>
    public void Pass(ComputeStream stream, PassBuffers<T> a, PagedKvCache<T> cache, PassRows pass, bool prompt)
    {
        var (heads, kvHeads, headDim, eps) = (Config.NumAttentionHeads, Config.NumKeyValueHeads, Config.HeadDim, (float)Config.RmsNormEps);
        var rows = prompt ? a.PromptRows : stream is CpuStream ? pass.Count : a.Sequences;
        a.Load(stream, pass, rows, prompt);
        var (input, norm, rstd) = (a.Input.Rows(0, rows), a.Norm.Rows(0, rows), a.Rstd.Prefix(rows));
        var (qkv, attention, branch) = (a.Qkv.Rows(0, rows), a.Attention.Rows(0, rows), a.Branch.Rows(0, rows));
        var (gateUp, act) = (a.GateUp.Rows(0, rows), a.Act.Rows(0, rows));
        var (pages, offsets, table) = (a.Pages.Prefix(pass.Count), a.Offsets.Prefix(pass.Count), a.PageTable.Rows(0, pass.Sequences));

        Embedding.Forward(stream, a.TokenIds.Prefix(rows), Weights[_p.Embedding], input);
        RmsNorm.Forward(stream, input, Weights[_p.Layers[0].InputNorm], norm, rstd, eps);
        for (var l = 0; l < _p.Layers.Length; l++)
        {
            var w = _p.Layers[l];
            Product(stream, norm, Weights[w.Qkv], Weights[w.QkvBias], qkv, prompt);
            Rope.Forward(stream, qkv, a.Positions.Prefix(rows), a.Rope, heads + kvHeads, headDim);
            Attention.AppendToCache(stream, qkv.Rows(0, pass.Count), pages, offsets, cache.Keys(l), cache.Values(l), heads, kvHeads, headDim);
            Attention.Paged(stream, qkv, cache.Keys(l), cache.Values(l), table, attention, heads, kvHeads, headDim, a.Workspace);
            Product(stream, attention, Weights[w.Output], default, branch, prompt);
            RmsNorm.ForwardResidual(stream, branch, input, Weights[w.PostAttentionNorm], input, norm, rstd, eps);
            Product(stream, norm, Weights[w.GateUp], default, gateUp, prompt);
            SwiGlu.Forward(stream, gateUp, act);
            Product(stream, act, Weights[w.Down], default, branch, prompt);
            var next = l + 1 < _p.Layers.Length ? _p.Layers[l + 1].InputNorm : _p.FinalNorm;
            RmsNorm.ForwardResidual(stream, branch, input, Weights[next], input, norm, rstd, eps);
        }

        var wanted = pass.Wanted == 0 ? 0 : stream is CpuStream ? pass.Wanted : a.Sequences;
        if (wanted > 0)
        {
            Embedding.Forward(stream, a.LastRows.Prefix(wanted), norm, a.Last.Rows(0, wanted));   // a gather of rows
            Matmul.ForwardRows(stream, a.Last.Rows(0, wanted), Weights[_p.Head], default, a.Logits.Rows(0, wanted));
            Argmax.Forward(stream, a.Logits.Rows(0, wanted), a.Next.Prefix(wanted));
        }
    }

    private static void Product(ComputeStream stream, Tensor<T> x, Tensor<T> w, Tensor<T> bias, Tensor<T> y, bool prompt)
    {
        if (prompt)
        {
            Matmul.ForwardBlock(stream, x, w, bias, y);
        }
        else
        {
            Matmul.ForwardRows(stream, x, w, bias, y);
        }
    }
}
